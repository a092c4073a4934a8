import { errorMessage } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { BlockDevice, Completion } from '../core/block-device.ts';
import type { BackgroundPace } from './background-pace.ts';
import { collectStatus } from './block-status.ts';
import {
  dataChunkOverhead,
  encodeBlockStatusChunk,
  encodeErrorChunk,
  writeDataChunk,
  writeSimpleReply,
} from './codec.ts';
import { command, commandFlag, length } from './constants.ts';
import { type Errno, errno, errnoOf } from './errno.ts';
import type { ContextQuery } from './exports.ts';
import type { NbdLimits } from './limits.ts';
import { type ReplySink, ReplyWriter } from './reply-writer.ts';
import { checkRequest, type Terms } from './request-check.ts';
import { type NbdRequest, RequestParser } from './request-parser.ts';
import { planSparseRead, readSparsely } from './sparse-read.ts';

/** A metadata context that the client has selected. */
export interface ActiveContext {
  readonly id: number;
  readonly query: ContextQuery;
}

export interface TransmissionOptions {
  readonly device: BlockDevice;
  readonly readOnly: boolean;
  readonly structuredReplies: boolean;
  readonly contexts: readonly ActiveContext[];
  readonly limits: NbdLimits;
  /** See NbdExport.background. */
  readonly background: BackgroundPace | undefined;
  readonly log: Log;
  /** Where replies go, until the connection is closed. */
  readonly sink: ReplySink;
  /** Calls back after everything that is ready to run now, so that replies which become ready together leave together. */
  defer(callback: () => void): void;
  /** Requests have completed: the owner calls `resume`, and may read on. Called once for all that complete together. */
  progressed(): void;
  /** A defect of ours in the handling of a completion: the connection cannot go on. */
  broken(error: unknown): void;
}

const withFua = { fua: true };
/** Different failures of a connection that are logged; a broken disk fails the same way for every request. */
const maxLoggedFailures = 16;

const refusals: Readonly<Partial<Record<Errno, string>>> = {
  [errno.eperm]: 'the export is read-only',
  [errno.einval]: 'unknown command or flag, or a range that is too long, misaligned or past the end of the export',
  [errno.enospc]: 'the range is past the end of the export',
  [errno.enotsup]: 'zeroing is not certain to be faster than writing',
};

/**
 * The requests of one connection: executed in the order in which they come in, answered in the order in which they
 * complete. A request that never completes holds up nothing but its own reply.
 *
 * What is bounded: requests under way in the device, and bytes that belong to them or to replies the client has not
 * taken. At the limit nothing more is executed (`isFull`) until some of it is done; the caller stops reading meanwhile.
 */
export class Transmission {
  readonly #options: TransmissionOptions;
  readonly #device: BlockDevice;
  readonly #parser: RequestParser;
  readonly #writer: ReplyWriter;
  #requestsInFlight = 0;
  #bytesInFlight = 0;
  #progressDeferred = false;
  #state: 'running' | 'stopped' | 'disconnected' = 'running';
  #silent = false;
  #onIdle: (() => void) | undefined;
  readonly #logged = new Set<string>();

  constructor(options: TransmissionOptions) {
    this.#options = options;
    this.#device = options.device;
    this.#writer = new ReplyWriter(options.sink);
    const { device, readOnly, structuredReplies, limits } = options;
    const terms: Terms = {
      // A volume can grow while it is connected, and a kernel client be told so.
      get size() {
        return device.size;
      },
      blockSize: device.blockSize,
      readOnly,
      structuredReplies,
      contexts: options.contexts.length,
      maxPayloadBytes: limits.maxPayloadBytes,
    };
    this.#parser = new RequestParser((header) => checkRequest(terms, header));
  }

  /** Requests that have been handed to the device and have not completed. */
  get requestsInFlight(): number {
    return this.#requestsInFlight;
  }

  /** Nothing more is executed at present; see `received` and `resume`. */
  get isFull(): boolean {
    const { limits, sink, background } = this.#options;
    if (this.#requestsInFlight >= limits.maxRequestsInFlight || background?.spent) return true;
    return this.#bytesInFlight + this.#writer.unsentBytes + sink.queuedBytes >= limits.maxBytesInFlight;
  }

  /** The client has asked to disconnect: nothing more will be executed. */
  get isDisconnected(): boolean {
    return this.#state === 'disconnected';
  }

  /** Where to receive what the client sends next. */
  room(): Uint8Array {
    return this.#parser.room();
  }

  /**
   * Executes the requests in the bytes that have been received where `room` said.
   * @throws UnderstudyError Protocol when they are no requests; what was executed before is still answered.
   */
  filled(bytes: number): void {
    this.#parser.filled(bytes);
    this.resume();
  }

  /** The same with bytes that have been received elsewhere; they are copied. */
  received(bytes: Uint8Array): void {
    this.#parser.push(bytes);
    this.resume();
  }

  /** Goes on with what had to wait. @throws as `received` does. */
  resume(): void {
    try {
      while (this.#state === 'running' && !this.isFull) {
        const request = this.#parser.next();
        if (!request) break;
        this.#execute(request);
      }
    } finally {
      this.#writer.flush();
      const { background } = this.#options;
      if (background?.spent) background.wait(this.#goOn);
    }
  }

  readonly #goOn = () => {
    if (!this.#silent) this.#options.progressed();
  };

  /** From now on nothing more is executed; what is under way is still answered. */
  stop(): void {
    if (this.#state === 'running') this.#state = 'stopped';
  }

  /** From now on there are no replies: the connection is gone. */
  silence(): void {
    this.stop();
    this.#silent = true;
  }

  /** Calls back, once, when nothing is under way in the device; at once if that is so now. */
  whenIdle(callback: () => void): void {
    if (this.#requestsInFlight === 0) callback();
    else this.#onIdle = callback;
  }

  #execute(request: NbdRequest): void {
    if (request.error !== errno.none) {
      this.#refuse(request, request.error, refusals[request.error] ?? 'refused');
      return;
    }
    try {
      if (request.type === command.read) this.#read(request);
      else if (request.type === command.blockStatus) this.#blockStatus(request);
      else if (request.type === command.disconnect) this.#state = 'disconnected';
      else this.#change(request, this.#start(request));
    } catch (error) {
      this.#parser.release(request);
      this.#fail(request, error);
    }
  }

  /** Hands a request without data in its reply to the device. */
  #start(request: NbdRequest): Completion {
    const { type, flags, offset, length: bytes, data } = request;
    const fua = (flags & commandFlag.fua) !== 0;
    switch (type) {
      case command.write:
        return data && this.#device.write(offset, data, fua ? withFua : undefined);
      case command.flush:
        return this.#device.flush();
      case command.trim:
        return this.#trim(offset, bytes, fua);
      case command.writeZeroes:
        return this.#device.writeZeroes(offset, bytes, { fua, keepAllocated: (flags & commandFlag.noHole) !== 0 });
      default:
        // CACHE: the page cache below does what it can without being told.
        return undefined;
    }
  }

  #trim(offset: number, bytes: number, fua: boolean): Completion {
    const trimmed = this.#device.trim(offset, bytes);
    if (!fua) return trimmed;
    return trimmed === undefined ? this.#device.flush() : trimmed.then(() => this.#device.flush());
  }

  #change(request: NbdRequest, completion: Completion): void {
    if (completion === undefined) {
      this.#writer.simpleReply(request, errno.none);
      this.#parser.release(request);
      return;
    }
    this.#await(request, completion, () => this.#writer.simpleReply(request, errno.none));
  }

  #read(request: NbdRequest): void {
    const { structuredReplies } = this.#options;
    this.#options.background?.spend(request.length);
    const parts = structuredReplies ? planSparseRead(this.#device, request) : undefined;
    if (parts) {
      const { bytes, completion } = readSparsely(this.#device, request, parts);
      if (completion === undefined) this.#writer.add(bytes);
      else this.#await(request, completion, () => this.#writer.add(bytes));
      return;
    }
    const headerBytes = structuredReplies ? dataChunkOverhead : length.simpleReply;
    const reply = this.#writer.reserve(headerBytes + request.length);
    const { view, at } = reply;
    if (structuredReplies) {
      writeDataChunk(view, at, request, { offset: request.offset, dataBytes: request.length, done: true });
    } else {
      writeSimpleReply(view, at, request, errno.none);
    }
    let completion: Completion;
    try {
      completion = this.#device.read(request.offset, reply.bytes.subarray(at + headerBytes, at + reply.size));
    } catch (error) {
      this.#writer.abandon(reply);
      throw error;
    }
    if (completion === undefined) this.#writer.commit(reply);
    else
      this.#await(
        request,
        completion,
        () => this.#writer.commit(reply),
        () => this.#writer.abandon(reply),
      );
  }

  #blockStatus(request: NbdRequest): void {
    const { contexts } = this.#options;
    const wanted = request.flags & commandFlag.requestOne ? 'one' : 'many';
    const found = contexts.map(({ id, query }) => ({ id, extents: collectStatus(query, request, wanted) }));
    found.forEach(({ id, extents }, index) => {
      this.#writer.add(encodeBlockStatusChunk(request, id, extents, index === found.length - 1));
    });
  }

  #await(request: NbdRequest, completion: Promise<void>, reply: () => void, abandon?: () => void): void {
    const bytes = request.type === command.read || request.type === command.write ? request.length : 0;
    this.#requestsInFlight += 1;
    this.#bytesInFlight += bytes;
    const settled = (answer: () => void) => {
      this.#requestsInFlight -= 1;
      this.#bytesInFlight -= bytes;
      this.#parser.release(request);
      if (!this.#silent) answer();
      this.#settled();
    };
    completion.then(
      () => this.#guarded(() => settled(reply)),
      (error: unknown) =>
        this.#guarded(() => {
          abandon?.();
          settled(() => this.#fail(request, error));
        }),
    );
  }

  /** After the last request has completed there is no other reply to wait for; else one flush serves all. */
  #settled(): void {
    if (this.#requestsInFlight === 0) {
      if (!this.#silent) this.#writer.flush();
      const callback = this.#onIdle;
      this.#onIdle = undefined;
      callback?.();
    }
    if (this.#progressDeferred || this.#silent) return;
    this.#progressDeferred = true;
    this.#options.defer(() => {
      this.#progressDeferred = false;
      if (!this.#silent) this.#options.progressed();
    });
  }

  #guarded(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.#options.broken(error);
    }
  }

  #fail(request: NbdRequest, error: unknown): void {
    const message = errorMessage(error);
    const key = `${request.type} ${message}`;
    if (!this.#logged.has(key) && this.#logged.size < maxLoggedFailures) {
      this.#logged.add(key);
      const { type, offset, length: bytes } = request;
      this.#options.log.warn({ command: type, offset, length: bytes, err: error }, `request failed: ${message}`);
    }
    this.#refuse(request, errnoOf(error), message);
  }

  #refuse(request: NbdRequest, error: Errno, message: string): void {
    if (this.#options.structuredReplies) this.#writer.add(encodeErrorChunk(request, error, message));
    else this.#writer.simpleReply(request, error);
  }
}
