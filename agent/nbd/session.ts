import { assert } from '../../common/assert.ts';
import type { Clock, Timer } from '../../common/clock.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { Connection, ReceivingHandler } from '../core/connection.ts';
import { allocationQuery } from './block-status.ts';
import { allocationContext } from './constants.ts';
import { exportFacts } from './export-facts.ts';
import type { ExportProvider, NbdClient, NbdExport } from './exports.ts';
import { Handshake, type HandshakeEffect, type TransmissionSettings } from './handshake.ts';
import type { NbdLimits } from './limits.ts';
import { Transmission } from './transmission.ts';

/** A connection that can also be ended in order, and whose handler may choose where its bytes are received. */
export interface NbdConnection extends Connection {
  handle(handler: ReceivingHandler): void;
  /** Ends it after everything that was sent has been taken over; `closed` follows. */
  end(): void;
}

export interface SecuredConnection {
  readonly connection: NbdConnection;
  readonly client: NbdClient;
}

export interface SessionOptions {
  readonly exports: ExportProvider;
  readonly limits: NbdLimits;
  readonly clock: Clock;
  readonly log: Log;
  readonly client: NbdClient;
  /** Turns the connection into one with TLS, of a client with a valid certificate; absent: there is no TLS. */
  readonly startTls?: (connection: NbdConnection) => Promise<SecuredConnection>;
  /** See TransmissionOptions. */
  defer(callback: () => void): void;
  /** Called exactly once, last: the connection is closed, its requests have completed and its export is closed. */
  ended(): void;
}

/**
 * One client, from its connection to the closing of its export. It touches no socket: see NbdServer.
 *
 * Order at the end, whoever ends it: no new requests; replies to what is under way, for at most `drainMs`; connection
 * closed; what the device still has under way completes without replies; export closed; `ended`.
 */
export class NbdSession implements ReceivingHandler {
  readonly #options: SessionOptions;
  readonly #handshake: Handshake;
  #connection: NbdConnection;
  #client: NbdClient;
  #deadline: Timer | undefined;
  #export: { name: string; opened: NbdExport } | undefined;
  #transmission: Transmission | undefined;
  #opening = false;
  #paused = false;
  readonly #whenClosed = Promise.withResolvers<void>();
  #closed = false;
  #draining = false;
  #log: Log;

  constructor(connection: NbdConnection, options: SessionOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#client = options.client;
    this.#log = options.log;
    const { maxOptions, maxOptionBytes, maxContexts, maxHandshakeReplyBytes, handshakeMs } = options.limits;
    this.#handshake = new Handshake({
      tls: options.startTls ? 'required' : 'off',
      maxOptions,
      maxOptionBytes,
      maxContexts,
      maxReplyBytes: maxHandshakeReplyBytes,
      listExports: () => options.exports.list(),
    });
    this.#deadline = options.clock.after(handshakeMs, () => this.#destroy(timedOut(handshakeMs)));
    connection.handle(this);
    this.#guarded(() => this.#perform(this.#handshake.start()));
  }

  /** The export that is being served, once the handshake is over. */
  get exportName(): string | undefined {
    return this.#transmission && this.#export?.name;
  }

  get requestsInFlight(): number {
    return this.#transmission?.requestsInFlight ?? 0;
  }

  received(bytes: Uint8Array): void {
    if (this.#closed || this.#draining) return;
    this.#guarded(() => {
      if (this.#transmission) {
        this.#transmission.received(bytes);
        this.#afterRequests();
      } else {
        this.#perform(this.#handshake.received(bytes));
      }
    });
  }

  room(): Uint8Array | undefined {
    return this.#closed || this.#draining ? undefined : this.#transmission?.room();
  }

  filled(bytes: number): void {
    if (this.#closed || this.#draining) return;
    this.#guarded(() => {
      this.#transmission?.filled(bytes);
      this.#afterRequests();
    });
  }

  drained(): void {
    this.#progressed();
  }

  closed(reason: Error | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#whenClosed.resolve();
    this.#deadline?.cancel();
    this.#transmission?.silence();
    if (reason && this.#transmission) this.#log.info({ reason: reason.message }, 'connection lost');
    else this.#log.debug({ reason: reason?.message }, 'connection closed');
    if (this.#transmission) this.#transmission.whenIdle(() => void this.#release());
    else if (!this.#opening) void this.#release();
  }

  /**
   * Ends the connection, from the server's side: answers what is under way, for a bounded time, then closes it. When it
   * completes the connection is closed; requests may still be under way in the device.
   */
  drain(): Promise<void> {
    if (!this.#closed && !this.#draining) this.#beginDraining();
    return this.#whenClosed.promise;
  }

  #beginDraining(): void {
    this.#draining = true;
    this.#connection.pause();
    this.#transmission?.stop();
    const { clock, limits } = this.#options;
    this.#deadline?.cancel();
    this.#deadline = clock.after(limits.drainMs, () => this.#destroy());
    if (this.#transmission) this.#transmission.whenIdle(() => this.#connection.end());
    else this.#connection.end();
  }

  #perform(effects: readonly HandshakeEffect[]): void {
    const replies = effects.flatMap((effect) => (effect.do === 'send' ? [effect.bytes] : []));
    // Nothing is sent after an effect of another kind, so all replies can go first, at once.
    if (replies.length > 0) this.#connection.send(...replies);
    for (const effect of effects) {
      switch (effect.do) {
        case 'open':
          void this.#open(effect.name);
          break;
        case 'startTls':
          void this.#startTls();
          break;
        case 'transmit':
          this.#transmit(effect.settings, effect.rest);
          break;
        case 'close':
          this.#log.debug({ reason: effect.reason }, 'handshake ended');
          void this.drain();
          break;
        default:
          break;
      }
    }
  }

  async #open(name: string): Promise<void> {
    const { exports } = this.#options;
    this.#opening = true;
    this.#pause();
    let answer: () => HandshakeEffect[];
    try {
      await this.#closeExport();
      const opened = await exports.open(name, this.#client);
      this.#export = { name, opened };
      answer = () => this.#handshake.opened(exportFacts(name, opened, this.#options.limits));
    } catch (error) {
      this.#log.info({ export: name, reason: errorMessage(error) }, 'export refused');
      answer = () => this.#handshake.refused(error);
    }
    this.#opening = false;
    if (this.#closed) return this.#release();
    this.#resume();
    if (!this.#draining) this.#guarded(() => this.#perform(answer()));
  }

  async #startTls(): Promise<void> {
    const { startTls } = this.#options;
    assert(startTls, 'the handshake offers TLS only where there is TLS');
    try {
      const { connection, client } = await startTls(this.#connection);
      this.#connection = connection;
      this.#client = client;
      connection.handle(this);
    } catch (error) {
      // The plain connection has been given away, so its end is not reported by it.
      this.#destroy();
      this.closed(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    this.#guarded(() => this.#perform(this.#handshake.secured()));
  }

  #transmit(settings: TransmissionSettings, rest: Uint8Array): void {
    const { limits, defer } = this.#options;
    assert(this.#export, 'transmission begins with an opened export');
    const { name, opened } = this.#export;
    this.#deadline?.cancel();
    this.#log = this.#log.child({ export: name });
    const contexts = settings.contexts.flatMap(({ id, name: context }) => {
      const query = context === allocationContext ? allocationQuery(opened.device) : opened.contexts.get(context);
      return query ? [{ id, query }] : [];
    });
    this.#transmission = new Transmission({
      device: opened.device,
      readOnly: opened.readOnly,
      structuredReplies: settings.structuredReplies,
      contexts,
      limits,
      log: this.#log,
      sink: this.#connection,
      defer,
      background: opened.background,
      progressed: () => this.#progressed(),
      broken: (error) => this.#broken(error),
    });
    this.#log.info({ readOnly: opened.readOnly }, 'client connected');
    this.#transmission.received(rest);
    this.#afterRequests();
  }

  #progressed(): void {
    if (this.#closed || this.#draining) return;
    this.#guarded(() => {
      this.#transmission?.resume();
      this.#afterRequests();
    });
  }

  /** Reads on, or not, after requests have been executed. */
  #afterRequests(): void {
    if (this.#transmission?.isDisconnected) void this.drain();
    else if (this.#transmission?.isFull) this.#pause();
    else this.#resume();
  }

  #pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#connection.pause();
  }

  #resume(): void {
    if (!this.#paused || this.#closed || this.#draining) return;
    this.#paused = false;
    this.#connection.resume();
  }

  /** Nothing that one client causes may reach further than its own connection. */
  #guarded(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.#broken(error);
    }
  }

  #broken(error: unknown): void {
    if (error instanceof UnderstudyError && error.code === 'Protocol') {
      this.#log.warn({ reason: error.message }, 'the client broke the protocol');
      void this.drain();
      return;
    }
    this.#log.error({ err: error }, 'connection ended by a defect');
    this.#destroy(error instanceof Error ? error : new Error(String(error)));
  }

  #destroy(reason?: Error): void {
    if (!this.#closed) this.#connection.destroy(reason);
  }

  async #closeExport(): Promise<void> {
    const open = this.#export;
    this.#export = undefined;
    await open?.opened.close();
  }

  async #release(): Promise<void> {
    try {
      await this.#closeExport();
    } catch (error) {
      this.#log.error({ err: error }, 'closing the export failed');
    }
    this.#options.ended();
  }
}

function timedOut(handshakeMs: number): Error {
  return new UnderstudyError('Timeout', `no handshake within ${handshakeMs} ms`);
}
