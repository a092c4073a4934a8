import { type Clock, delay, type Timer } from '../../common/clock.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import type { ObjectKey } from '../resources/kube-object.ts';
import { type Lease, leases } from '../resources/platform-kinds.ts';
import {
  type ElectionEvent,
  type ElectionState,
  type ElectionTiming,
  initialState,
  isLeading,
  nextMove,
  step,
} from './election.ts';
import { claimSpec, releasedSpec, seenLease } from './lease-codec.ts';
import type { Term } from './term.ts';

export interface LeaderElectorOptions {
  readonly api: KubeApi;
  readonly lease: ObjectKey & { readonly namespace: string };
  /** Unlike that of every other process, also of an earlier one of the same name. */
  readonly identity: string;
  readonly timing: ElectionTiming;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
  /** Begins to work as the leader; `stop` resolves when nothing is under way any more. */
  readonly lead: (term: Term) => { stop(): Promise<void> };
}

interface Reign {
  readonly over: AbortController;
  readonly duty: { stop(): Promise<void> };
}

/**
 * Takes part in the election of a leader for as long as it runs, and leads when it is elected.
 *
 * Invariants
 * - A term is over as soon as the clock says so, whether anything of this process ran in between or not: it is asked at
 *   every write, see term.ts.
 * - A new term begins only when nothing of the last one is under way any more.
 * - The lease is renewed until the work under way at an orderly stop has ended, and released after it.
 */
export class LeaderElector {
  readonly #options: LeaderElectorOptions;
  readonly #stopping = new AbortController();
  #state: ElectionState = initialState;
  /** The object of the last read or write. */
  #object: Lease | undefined;
  #acquiredAtMs = 0;
  /** When the term ends on the wall clock: the other clock may stand still while a machine is suspended. */
  #wallUntilMs = 0;
  #reign: Reign | undefined;
  #expiry: Timer | undefined;
  #contactMs: number | undefined;
  #attemptMs: number;
  #ended: Promise<void> | undefined;
  /** It finishes what it has begun, and wants nothing more. */
  #leaving = false;

  constructor(options: LeaderElectorOptions) {
    this.#options = options;
    this.#attemptMs = options.clock.monotonicMs();
  }

  start(): void {
    this.#ended = this.#run();
  }

  get leads(): boolean {
    const { clock } = this.#options;
    return isLeading(this.#state, clock.monotonicMs()) && clock.wallTimeMs() < this.#wallUntilMs;
  }

  /** Who has the lease, as far as is known here. */
  get holder(): string | undefined {
    return this.#state.lease?.holder;
  }

  /** Whether the API server has answered lately, so that this replica would notice that it is needed. */
  get isInContact(): boolean {
    const { clock, timing } = this.#options;
    return this.#contactMs !== undefined && clock.monotonicMs() - this.#contactMs < timing.leaseMs * 2;
  }

  /** Whether it still tries at all, with or without success. */
  get isAlive(): boolean {
    const { clock, timing } = this.#options;
    return clock.monotonicMs() - this.#attemptMs < timing.leaseMs * 4;
  }

  /** Ends the work of a leader in order, then hands the lease over. */
  async stop(): Promise<void> {
    this.#leaving = true;
    await this.#reign?.duty.stop();
    this.#stopping.abort(new Error('stopped'));
    await this.#ended;
    this.#expiry?.cancel();
    const wasLeading = this.leads;
    this.#step({ type: 'resigned' });
    this.#reign?.over.abort(notLeading());
    if (wasLeading) await this.#release();
  }

  async #run(): Promise<void> {
    const { clock, random, timing } = this.#options;
    while (!this.#stopping.signal.aborted) {
      this.#attemptMs = clock.monotonicMs();
      await this.#attempt();
      await this.#rule();
      const spread = this.#reign === undefined ? 1 + random() / 5 : 1;
      await delay(clock, timing.retryMs * spread, this.#stopping.signal).catch(() => {});
    }
  }

  /** Begins or ends a term, according to what the last attempt has shown. */
  async #rule(): Promise<void> {
    const { identity, log, lead } = this.#options;
    if (this.#reign !== undefined && (this.#reign.over.signal.aborted || !this.leads)) {
      this.#end();
      const { duty } = this.#reign;
      // Meanwhile nobody here wants to be elected.
      await duty.stop();
      this.#reign = undefined;
    }
    if (this.#reign !== undefined || !this.leads || this.#leaving) return;
    const over = new AbortController();
    log.info({ identity }, 'this replica leads now');
    const held = () => !over.signal.aborted && this.leads;
    const check = () => {
      if (!held()) throw notLeading();
    };
    this.#reign = { over, duty: lead({ isHeld: held, check, over: over.signal }) };
  }

  #end(): void {
    if (this.#reign === undefined || this.#reign.over.signal.aborted) return;
    this.#options.log.warn({ holder: this.holder }, 'this replica does not lead any more');
    this.#step({ type: 'resigned' });
    this.#reign.over.abort(notLeading());
  }

  async #attempt(): Promise<void> {
    const { api, lease, identity, clock, log } = this.#options;
    try {
      if (!this.leads) this.#step({ type: 'failed' });
      if (nextMove(this.#state, identity, clock.monotonicMs()).type === 'read') {
        this.#object = await this.#within(api.get(leases, lease));
        const seen = this.#object && seenLease(this.#object);
        this.#step({ type: 'read', lease: seen, atMs: clock.monotonicMs() });
      }
      await this.#claim();
      this.#contactMs = clock.monotonicMs();
    } catch (error) {
      this.#step({ type: 'failed' });
      log.debug({ error: errorMessage(error) }, 'could not read or write the lease');
      if (error instanceof UnderstudyError && error.code === 'Conflict') this.#contactMs = clock.monotonicMs();
      else log.warn({ error: errorMessage(error) }, 'the lease is out of reach');
    }
  }

  async #claim(): Promise<void> {
    const { api, lease, identity, clock, timing } = this.#options;
    const move = nextMove(this.#state, identity, clock.monotonicMs());
    if (move.type === 'read' || move.type === 'wait' || (this.#leaving && !this.leads)) return;
    const sentAtMs = clock.monotonicMs();
    const wallMs = clock.wallTimeMs();
    const transitions = move.type === 'create' ? 0 : move.transitions;
    const acquiredAtMs = this.#state.lease?.holder === identity && this.leads ? this.#acquiredAtMs : wallMs;
    const spec = claimSpec({ identity, leaseMs: timing.leaseMs, transitions, nowMs: wallMs, acquiredAtMs });
    const type = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease' };
    const written =
      move.type === 'update' && this.#object !== undefined
        ? api.update(leases, { ...this.#object, spec })
        : api.create(leases, { ...type, metadata: lease, spec });
    this.#object = await this.#within(written);
    this.#acquiredAtMs = acquiredAtMs;
    this.#wallUntilMs = wallMs + timing.renewDeadlineMs;
    this.#step({ type: 'written', lease: seenLease(this.#object), sentAtMs });
    this.#expire(sentAtMs + timing.renewDeadlineMs - clock.monotonicMs());
  }

  /** Ends the term at its end, although an attempt may be waiting for an answer then. */
  #expire(inMs: number): void {
    this.#expiry?.cancel();
    this.#expiry = this.#options.clock.after(Math.max(0, inMs), () => {
      if (!this.leads) this.#end();
    });
  }

  /** No answer is waited for so long that there would be no time for another attempt. */
  async #within<Answer>(answer: Promise<Answer>): Promise<Answer> {
    const { clock, timing } = this.#options;
    const { promise, reject } = Promise.withResolvers<never>();
    const timer = clock.after(timing.renewDeadlineMs / 2, () =>
      reject(new UnderstudyError('Timeout', 'no answer from the API server in time')),
    );
    try {
      return await Promise.race([answer, promise]);
    } finally {
      timer.cancel();
    }
  }

  /** A failure costs the others only the time until the lease is over. */
  async #release(): Promise<void> {
    const { api, clock, log } = this.#options;
    if (this.#object === undefined) return;
    const spec = releasedSpec(this.#object.spec?.leaseTransitions ?? 0, clock.wallTimeMs());
    try {
      await this.#within(api.update(leases, { ...this.#object, spec }));
      log.info({}, 'released the lease');
    } catch (error) {
      log.warn({ error: errorMessage(error) }, 'could not release the lease');
    }
  }

  #step(event: ElectionEvent): void {
    this.#state = step(this.#state, event, this.#options.identity, this.#options.timing);
  }
}

function notLeading(): UnderstudyError {
  return new UnderstudyError('NotReady', 'this replica does not lead any more; another one goes on');
}
