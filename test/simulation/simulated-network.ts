import type { Connection, ConnectionHandler } from '../../agent/core/connection.ts';
import { UnderstudyError } from '../../common/errors.ts';
import type { Random } from '../support/random.ts';
import type { ProcessScope } from './process-scope.ts';
import type { Scheduler } from './scheduler.ts';

export type Purpose = 'mirror' | 'restore';

/** Somebody who takes connections. */
export interface Listener {
  readonly scope: ProcessScope;
  accept(connection: Connection, purpose: Purpose): void;
}

export interface NetworkTiming {
  readonly minDelayMs: number;
  readonly maxDelayMs: number;
  /** How often a piece takes much longer, from 0 to 1. */
  readonly hiccups: number;
}

/**
 * A network of hosts with TCP-like connections: within one, bytes are neither lost, reordered nor doubled, but cut into
 * pieces anywhere; directions can be cut and slowed down by themselves, which the ends do not notice; a connection may
 * close at its two ends at quite different times; connections of the same two hosts overlap.
 */
export class SimulatedNetwork {
  readonly scheduler: Scheduler;
  readonly #random: Random;
  readonly #timing: NetworkTiming;
  readonly #listeners = new Map<string, Listener>();
  /** Directions that pass nothing on, as "from>to". */
  readonly #cut = new Set<string>();
  readonly #ends = new Set<SimulatedConnection>();

  constructor(scheduler: Scheduler, random: Random, timing: NetworkTiming) {
    this.scheduler = scheduler;
    this.#random = random;
    this.#timing = timing;
  }

  listen(host: string, listener: Listener): void {
    this.#listeners.set(host, listener);
  }

  isCut(from: string, to: string): boolean {
    return this.#cut.has(`${from}>${to}`);
  }

  cut(from: string, to: string): void {
    this.#cut.add(`${from}>${to}`);
  }

  heal(): void {
    this.#cut.clear();
    for (const end of [...this.#ends]) end.flow();
  }

  /** The machine of a host is gone: its peers learn of it when they next send something. */
  crashed(scope: ProcessScope): void {
    for (const end of [...this.#ends]) if (end.scope === scope) end.vanish();
  }

  /** The process is gone: its machine closes its connections. */
  killed(scope: ProcessScope): void {
    for (const end of [...this.#ends]) if (end.scope === scope) end.destroy();
  }

  async connect(from: string, scope: ProcessScope, to: string, purpose: Purpose = 'mirror'): Promise<Connection> {
    await this.scheduler.delay(this.delayMs());
    if (this.isCut(from, to) || this.isCut(to, from)) {
      await this.scheduler.delay(connectTimeoutMs);
      throw new UnderstudyError('Timeout', 'simulated: no answer');
    }
    const listener = this.#listeners.get(to);
    if (!listener?.scope.alive) {
      await this.scheduler.delay(this.delayMs());
      throw new UnderstudyError('Unavailable', 'simulated: connection refused');
    }
    const near = new SimulatedConnection(this, this.#random.fork(), from, to, scope);
    const far = new SimulatedConnection(this, this.#random.fork(), to, from, listener.scope);
    near.join(far);
    this.#ends.add(near).add(far);
    listener.accept(far, purpose);
    await this.scheduler.delay(this.delayMs());
    if (!scope.alive) near.destroy();
    return near;
  }

  delayMs(): number {
    const { minDelayMs, maxDelayMs, hiccups } = this.#timing;
    const usual = minDelayMs + this.#random.fraction() * (maxDelayMs - minDelayMs);
    return this.#random.chance(hiccups) ? usual * 50 : usual;
  }

  forget(end: SimulatedConnection): void {
    this.#ends.delete(end);
  }
}

/** One end of a connection. */
class SimulatedConnection implements Connection {
  readonly scope: ProcessScope;
  readonly #network: SimulatedNetwork;
  readonly #random: Random;
  readonly #host: string;
  readonly #peerHost: string;
  #peer: SimulatedConnection | undefined;
  #handler: ConnectionHandler | undefined;
  #paused = true;
  #closed = false;
  #closedTold = false;
  #reason: Error | undefined;
  /** Sent here and not delivered; references, so that a sender who changes a buffer is found out. */
  #outbox: { readonly piece: Uint8Array; readonly dueMs: number }[] = [];
  #lastDueMs = 0;
  /** The end of the stream has been sent. */
  #finishing = false;
  /** Received and not handed over. */
  #inbox: Uint8Array[] = [];

  constructor(network: SimulatedNetwork, random: Random, host: string, peerHost: string, scope: ProcessScope) {
    this.#network = network;
    this.#random = random;
    this.#host = host;
    this.#peerHost = peerHost;
    this.scope = scope;
  }

  join(peer: SimulatedConnection): void {
    this.#peer = peer;
    peer.#peer = this;
  }

  get queuedBytes(): number {
    return this.#outbox.reduce((sum, { piece }) => sum + piece.length, 0);
  }

  send(...pieces: Uint8Array[]): void {
    if (this.#closed || this.#finishing || !this.scope.alive) return;
    const dueMs = this.#nextDueMs();
    for (const piece of pieces) this.#outbox.push({ piece, dueMs });
    this.#flowAt(dueMs);
  }

  flush(): void {
    // Nothing is kept back here.
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#network.scheduler.after(0, () => this.#handOver());
  }

  handle(handler: ConnectionHandler): void {
    this.#handler = handler;
    this.resume();
    if (this.#closed) this.#tellClosed();
  }

  /** Ends this end at once; what is on its way may or may not still arrive. */
  destroy(reason?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#reason = reason;
    this.#inbox = [];
    if (this.#random.chance(0.5)) this.#outbox.length = this.#random.below(this.#outbox.length + 1);
    // What the machine still sends it has taken over; the sender's buffers are the sender's again.
    this.#outbox = this.#outbox.map(({ piece, dueMs }) => ({ piece: Uint8Array.from(piece), dueMs }));
    this.#finishing = true;
    const dueMs = this.#nextDueMs();
    this.#flowAt(dueMs);
    // The end that closes may learn of it late.
    this.#network.scheduler.after(this.#random.chance(0.1) ? this.#random.below(3000) : 0, () => this.#tellClosed());
  }

  /** Its machine has stopped: nothing is said to the peer. */
  vanish(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#outbox.length = this.#random.below(this.#outbox.length + 1);
    this.#outbox = this.#outbox.map(({ piece, dueMs }) => ({ piece: Uint8Array.from(piece), dueMs }));
    this.#inbox = [];
    const dueMs = this.#nextDueMs();
    this.#flowAt(dueMs);
  }

  /** Delivers what is due, unless the direction is cut; then `heal` calls again. */
  flow(): void {
    if (this.#network.isCut(this.#host, this.#peerHost)) return;
    const now = this.#network.scheduler.nowMs;
    const due: Uint8Array[] = [];
    while (this.#outbox[0] && this.#outbox[0].dueMs <= now)
      due.push((this.#outbox.shift() as { piece: Uint8Array }).piece);
    if (due.length > 0) this.#peer?.arrive(Buffer.concat(due));
    if (this.#outbox.length > 0 || !this.#closed) return;
    this.#network.forget(this);
    if (this.#finishing) this.#peer?.closedByPeer();
  }

  arrive(bytes: Buffer): void {
    if (this.#closed) {
      // A machine that does not know the connection says so.
      this.#network.scheduler.after(this.#network.delayMs(), () => this.reset());
      return;
    }
    for (let at = 0; at < bytes.length; ) {
      const length = this.#random.chance(0.7) ? bytes.length - at : 1 + this.#random.below(bytes.length - at);
      this.#inbox.push(bytes.subarray(at, at + length));
      at += length;
    }
    this.#handOver();
  }

  reset(): void {
    if (this.#network.isCut(this.#host, this.#peerHost)) return;
    this.#peer?.closedByPeer();
  }

  closedByPeer(): void {
    if (this.#closed) return;
    // What has arrived before is handed over first.
    if (this.#inbox.length > 0 && this.#random.chance(0.5)) {
      this.#network.scheduler.after(1, () => this.closedByPeer());
      return;
    }
    this.destroy(this.#random.chance(0.5) ? new Error('simulated: connection reset') : undefined);
  }

  #nextDueMs(): number {
    this.#lastDueMs = Math.max(this.#lastDueMs, this.#network.scheduler.nowMs + this.#network.delayMs());
    return this.#lastDueMs;
  }

  #flowAt(dueMs: number): void {
    this.#network.scheduler.after(dueMs - this.#network.scheduler.nowMs, () => this.flow());
  }

  #handOver(): void {
    if (this.#paused || this.#closed || !this.#handler || !this.scope.alive) return;
    const bytes = this.#inbox.shift();
    if (!bytes) return;
    if (this.#inbox.length > 0) this.#network.scheduler.after(this.#random.below(2) * 0.05, () => this.#handOver());
    this.#handler.received(bytes);
  }

  #tellClosed(): void {
    if (this.#closedTold || !this.#handler || !this.scope.alive) return;
    this.#closedTold = true;
    this.#handler.closed(this.#reason);
  }
}

const connectTimeoutMs = 5_000;
