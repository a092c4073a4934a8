import type { Arbiter, ArbiterQuestion } from '../../agent/mirror/arbiter.ts';
import type { ArbiterAnswer } from '../../agent/mirror/mirror-state.ts';
import type { Random } from '../support/random.ts';
import type { ProcessScope } from './process-scope.ts';
import type { Scheduler } from './scheduler.ts';
import type { Trace } from './trace.ts';

export type CopyState = 'InSync' | 'Outdated';

/** The object that is swapped as a whole. */
export interface ArbiterObject {
  readonly version: number;
  readonly epoch: number;
  readonly primary: string;
  readonly copies: Readonly<Record<string, CopyState>>;
  /** Former primaries that may have acknowledged what this one does not have, with their epochs. */
  readonly divergent?: Readonly<Record<string, number>>;
}

/** A promotion that accepted a loss: of what the copy given up acknowledged, in the epochs that the order named. */
export interface ForcedPromotion {
  readonly epoch: number;
  readonly node: string;
  readonly givenUp: string;
  readonly givenUpEpoch: number;
  /** Of the data of the copy that was promoted: nothing from before it may be lost. */
  readonly dataEpoch: number;
}

/**
 * An arbiter like the API server's: an object with a version, and a compare-and-swap on it. Requests are lost, replies
 * are lost, and a request whose sender has long given up may still arrive.
 */
export class SimulatedArbiter {
  readonly #scheduler: Scheduler;
  readonly #random: Random;
  readonly #trace: Trace;
  object: ArbiterObject;
  /** Nobody reaches it. */
  down = false;
  /** These hosts do not reach it. */
  readonly cutFrom = new Set<string>();
  /** Processes that know that a newer epoch exists. */
  readonly refused = new Set<ProcessScope>();
  readonly forced: ForcedPromotion[] = [];
  /** How often a request or a reply is lost, from 0 to 1. */
  lossiness = 0;

  constructor(scheduler: Scheduler, random: Random, trace: Trace, primary: string) {
    this.#scheduler = scheduler;
    this.#random = random;
    this.#trace = trace;
    this.object = { version: 1, epoch: 1, primary, copies: {} };
  }

  /** The arbiter as a primary's process sees it. */
  forPrimary(host: string, scope: ProcessScope): Arbiter {
    const ask = (question: ArbiterQuestion, state: CopyState) =>
      scope.guard(async () => {
        const answer = await this.#ask(host, question, state);
        if (answer === 'refused') this.refused.add(scope);
        this.#trace.note('arbiter', `${host} asks ${question.mirror} ${state} in ${question.epoch}: ${answer}`);
        return answer;
      });
    return {
      markOutdated: (question) => ask(question, 'Outdated'),
      markInSync: (question) => ask(question, 'InSync'),
      markDropped: (question) => ask(question, 'Outdated'),
    };
  }

  async read(): Promise<ArbiterObject | undefined> {
    return (await this.#passes()) ? this.object : undefined;
  }

  /**
   * Swaps the object if it is still what was read. "unknown": no reply came, and it may have happened.
   * A request can be on its way for longer than its sender waits for the reply.
   */
  async swap(
    read: ArbiterObject,
    next: Omit<ArbiterObject, 'version'>,
    forced?: ForcedPromotion,
  ): Promise<'done' | 'conflict' | 'unknown'> {
    const late = this.#random.chance(this.lossiness);
    const arrives = (async () => {
      if (late) await this.#scheduler.delay(this.#random.below(20_000));
      if (!(await this.#passes())) return 'unknown';
      if (this.object.version !== read.version) return 'conflict';
      this.object = { ...next, version: read.version + 1 };
      if (forced) this.forced.push(forced);
      this.#trace.note('arbiter', `is now ${JSON.stringify(this.object)}`);
      if (!(await this.#passes())) return 'unknown';
      return 'done';
    })();
    const givesUp = this.#scheduler.delay(replyTimeoutMs).then(() => 'unknown' as const);
    return Promise.race([arrives, givesUp]);
  }

  async #ask(host: string, { epoch, mirror }: ArbiterQuestion, state: CopyState): Promise<ArbiterAnswer> {
    const read = this.cutFrom.has(host) ? undefined : await this.read();
    if (!read) {
      await this.#scheduler.delay(replyTimeoutMs);
      return 'unreachable';
    }
    if (read.primary !== host) return 'refused';
    // It is primary of the newer epoch as well, and is about to be told.
    if (read.epoch !== epoch) return 'unreachable';
    const outcome = await this.swap(read, { ...read, copies: { ...read.copies, [mirror]: state } });
    return outcome === 'done' ? 'granted' : 'unreachable';
  }

  async #passes(): Promise<boolean> {
    await this.#scheduler.delay(1 + this.#random.below(10));
    return !this.down && !this.#random.chance(this.lossiness);
  }
}

const replyTimeoutMs = 3_000;
