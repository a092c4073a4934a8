import type { Clock, Timer } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Connection } from '../core/connection.ts';
import type { Hello } from './messages.ts';
import type { Connector, MirrorTiming } from './mirror-link-options.ts';
import { type ChannelEvents, StandbyChannel } from './standby-channel.ts';

export interface LinkConnectionOptions {
  readonly volume: string;
  readonly connect: Connector;
  readonly clock: Clock;
  readonly timing: MirrorTiming;
  /** What is said first on each connection. */
  readonly hello: (generation: number) => Hello;
  /** While it is false, a connection that was lost is not made anew. */
  readonly wanted: () => boolean;
  readonly connected: (channel: StandbyChannel) => void;
  readonly disconnected: (channel: StandbyChannel, reason: string) => void;
  /** Whose answers are those of the channel. */
  readonly events: (channel: StandbyChannel) => Omit<ChannelEvents, 'closed'>;
  /** Twice per heartbeat, or more often. */
  readonly tick: (nowMs: number) => void;
}

/**
 * Keeps a connection to one standby up: connects, again and again, says hello, and keeps an idle connection busy, so that
 * a peer that has gone is noticed.
 *
 * Invariant: there is one channel at most, and `disconnected` is called for each exactly once.
 */
export class LinkConnection {
  address: string;
  /** Why there is no connection, or what the standby said last against this one. */
  lastError: string | undefined;
  /** When the standby was last heard of, on any connection. */
  lastHeardMs: number;
  readonly #options: LinkConnectionOptions;
  #channel: StandbyChannel | undefined;
  #connectedMs = 0;
  #lastPingMs: number;
  #generation = 0;
  #connecting = false;
  #stopped = false;
  #timer: Timer | undefined;

  constructor(address: string, options: LinkConnectionOptions) {
    this.address = address;
    this.#options = options;
    this.lastHeardMs = options.clock.monotonicMs();
    this.#lastPingMs = this.lastHeardMs;
  }

  get channel(): StandbyChannel | undefined {
    return this.#channel;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  start(): void {
    this.#tick();
    void this.#connect();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.drop('the mirror has been stopped');
  }

  /** Ends the connection that is up; another one follows. */
  drop(reason: string): void {
    this.#channel?.destroy(reason);
  }

  /** Nothing was heard for so many acknowledgement timeouts, on a connection that has been up all this time. */
  isOverdue(nowMs: number, timeouts = 1): boolean {
    const heardMs = Math.max(this.lastHeardMs, this.#connectedMs);
    return this.#channel !== undefined && nowMs - heardMs >= timeouts * this.#options.timing.acknowledgementTimeoutMs;
  }

  async #connect(): Promise<void> {
    const { connect, volume, wanted } = this.#options;
    if (this.#stopped || this.#connecting || this.#channel || !wanted()) return;
    this.#connecting = true;
    const { address } = this;
    try {
      const connection = await connect(address, volume);
      if (this.#stopped) connection.destroy();
      else this.#connected(connection);
    } catch (error) {
      this.lastError = `cannot connect to ${address}: ${errorMessage(error)}`;
      this.#reconnectLater();
    } finally {
      this.#connecting = false;
    }
  }

  #reconnectLater(): void {
    const { clock, timing } = this.#options;
    if (!this.#stopped) clock.after(timing.reconnectMs, () => void this.#connect());
  }

  #connected(connection: Connection): void {
    const { clock, hello, connected, events } = this.#options;
    this.#generation += 1;
    this.lastError = undefined;
    this.#connectedMs = clock.monotonicMs();
    const channel = new StandbyChannel(
      connection,
      {
        heard: () => {
          this.lastHeardMs = clock.monotonicMs();
          handlers.heard();
        },
        welcome: (welcome) => handlers.welcome(welcome),
        refused: (refuse) => handlers.refused(refuse),
        resyncAccepted: () => handlers.resyncAccepted(),
        confirmed: () => handlers.confirmed(),
        held: (sequence) => handlers.held?.(sequence),
        synced: (sequence) => handlers.synced?.(sequence),
        barrierDone: (done) => handlers.barrierDone?.(done),
        closed: (reason) => this.#disconnected(reason),
      },
      clock,
    );
    // It may have ended before anybody could be told.
    channel.ended.throwIfAborted();
    const handlers = events(channel);
    this.#channel = channel;
    connected(channel);
    channel.hello(hello(this.#generation));
  }

  #disconnected(reason: string): void {
    const channel = this.#channel;
    if (!channel) return;
    this.#channel = undefined;
    this.lastError = reason;
    this.#options.disconnected(channel, reason);
    this.#reconnectLater();
  }

  #tick(): void {
    const { clock, timing, tick } = this.#options;
    const { heartbeatMs, acknowledgementTimeoutMs } = timing;
    this.#timer = clock.after(Math.min(heartbeatMs, acknowledgementTimeoutMs) / 2, () => this.#tick());
    const nowMs = clock.monotonicMs();
    tick(nowMs);
    if (!this.#channel || nowMs - this.#lastPingMs < heartbeatMs) return;
    this.#lastPingMs = nowMs;
    this.#channel.ping();
  }
}
