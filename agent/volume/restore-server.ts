import { errorCode, errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { Connection } from '../core/connection.ts';
import { checkRange } from '../core/range.ts';
import {
  checked,
  encodeData,
  encodeMessage,
  maxReadBytes,
  type RestoreAnswer,
  RestoreFrames,
  type RestoreRequestMessage,
  requestShape,
  restoreProtocolVersion,
} from './restore-protocol.ts';
import { type CowRestoreSource, restoreWindowBytes } from './restore-source.ts';
import type { RecordStore } from './volume-record.ts';

export interface RestoreServerOptions {
  readonly store: RecordStore;
  readonly source: CowRestoreSource;
  readonly device: { readonly size: number; readonly blockSize: number };
  /** Whether this copy still is a standby. */
  readonly isStandby: () => boolean;
  readonly log: Log;
}

/** The standby's end of a connection for a restore: shows a snapshot to the primary, and writes down what it says. */
export class RestoreServer {
  readonly #connection: Connection;
  readonly #options: RestoreServerOptions;
  readonly #frames = new RestoreFrames();
  #greeted = false;
  /** Requests, one after the other. */
  #turn: Promise<void> = Promise.resolve();

  constructor(connection: Connection, options: RestoreServerOptions) {
    this.#connection = connection;
    this.#options = options;
    connection.handle({
      received: (bytes) => this.#received(bytes),
      drained: () => undefined,
      closed: () => void this.#turn.then(() => options.source.close()),
    });
  }

  #received(bytes: Uint8Array): void {
    try {
      for (const frame of this.#frames.push(bytes)) {
        const request = checked(requestShape, frame.kind === 'json' ? frame.value : undefined);
        this.#turn = this.#turn.then(() => this.#answer(request));
      }
    } catch (error) {
      this.#options.log.warn({ error: errorMessage(error) }, 'a connection for a restore is ended');
      this.#connection.destroy();
    }
  }

  async #answer(request: RestoreRequestMessage): Promise<void> {
    try {
      if (!this.#options.isStandby()) throw new UnderstudyError('Conflict', 'this copy is no standby any more');
      if (request.type === 'read') return void this.#connection.send(...encodeData(await this.#read(request)));
      this.#connection.send(...encodeMessage(await this.#do(request)));
    } catch (error) {
      this.#connection.send(...encodeMessage({ type: 'error', code: errorCode(error), message: errorMessage(error) }));
      if (!this.#greeted) this.#connection.destroy();
    }
  }

  async #do(request: Exclude<RestoreRequestMessage, { type: 'read' }>): Promise<RestoreAnswer> {
    const { source, store } = this.#options;
    if (request.type !== 'hello' && !this.#greeted) throw new UnderstudyError('Protocol', 'no hello');
    switch (request.type) {
      case 'hello':
        this.#admit(request);
        this.#greeted = true;
        return { type: 'done' };
      case 'look': {
        const { changedSinceBefore, ...outlook } = await source.look(request.snapshot, request.before);
        return { type: 'outlook', ...outlook, ...(changedSinceBefore === undefined ? {} : { changedSinceBefore }) };
      }
      case 'changed':
        this.#check(request.range, restoreWindowBytes);
        return { type: 'ranges', ranges: await source.changed(request.snapshot, request.range) };
      case 'mark':
        await store.update((record) => ({ ...record, restore: request.marker }));
        return { type: 'done' };
    }
  }

  async #read({ snapshot, range }: Extract<RestoreRequestMessage, { type: 'read' }>): Promise<Uint8Array> {
    if (!this.#greeted) throw new UnderstudyError('Protocol', 'no hello');
    this.#check(range, maxReadBytes);
    return this.#options.source.read(snapshot, range);
  }

  #check({ offset, length }: { offset: number; length: number }, longest: number): void {
    checkRange(this.#options.device, offset, length);
    if (length > longest) throw new UnderstudyError('Invalid', `${length} bytes at once: expected at most ${longest}`);
  }

  #admit({ protocol, uid, epoch }: Extract<RestoreRequestMessage, { type: 'hello' }>): void {
    const { record } = this.#options.store;
    if (protocol !== restoreProtocolVersion) {
      const message = `this agent speaks version ${restoreProtocolVersion} of the protocol for restores, the primary's ${protocol}: upgrade the older one`;
      throw new UnderstudyError('Protocol', message);
    }
    if (uid !== record.uid)
      throw new UnderstudyError('Conflict', `this copy is of another volume, with uid ${record.uid}`);
    if (epoch < Math.max(record.epoch, record.standby.preparedEpoch ?? 0))
      throw new UnderstudyError('Conflict', `this copy knows epoch ${record.epoch}, the primary is of ${epoch}`);
  }
}
