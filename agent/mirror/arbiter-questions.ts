import type { Clock } from '../../common/clock.ts';
import { UnderstudyError } from '../../common/errors.ts';
import type { Arbiter } from './arbiter.ts';
import type { VolumeIdentity } from './mirror-link-options.ts';
import type { ArbiterAnswer, MirrorState } from './mirror-state.ts';

type Asking = Exclude<MirrorState['asking'], 'nothing'>;

export interface ArbiterQuestionsOptions {
  readonly arbiter: Arbiter;
  readonly identity: VolumeIdentity;
  readonly mirror: string;
  readonly clock: Clock;
  readonly retryMs: number;
  /** Nobody is interested in answers any more. */
  readonly stopped: () => boolean;
  readonly answered: (question: Asking, answer: ArbiterAnswer) => void;
}

/** What a primary asks the arbiter about one mirror. An arbiter that fails to answer is unreachable, never a consent. */
export class ArbiterQuestions {
  readonly #options: ArbiterQuestionsOptions;
  /** The mirror is being taken from the volume: the arbiter must not be told anything else of it meanwhile. */
  #retiring = false;

  constructor(options: ArbiterQuestionsOptions) {
    this.#options = options;
  }

  async ask(question: Asking): Promise<void> {
    const { arbiter, stopped, answered } = this.#options;
    if (this.#retiring) return answered(question, 'unreachable');
    const about = this.#about(this.#options.identity.epoch);
    const asked = question === 'outdated' ? arbiter.markOutdated(about) : arbiter.markInSync(about);
    const answer = await asked.catch(() => 'unreachable' as const);
    if (!stopped()) answered(question, answer);
  }

  /** Asks again after a pause, if that is still to be known then. */
  askAgainLater(question: Asking, stillOpen: () => boolean): void {
    const { clock, retryMs, stopped } = this.#options;
    clock.after(retryMs, () => {
      if (!stopped() && stillOpen()) void this.ask(question);
    });
  }

  /**
   * Has the mirror dropped from those that may be promoted, for a volume that is in this epoch.
   * @throws UnderstudyError Fenced; Unavailable, then nothing has been changed
   */
  async drop(epoch: number): Promise<void> {
    this.#retiring = true;
    const answer = await this.#options.arbiter.markDropped(this.#about(epoch)).catch(() => 'unreachable' as const);
    this.#retiring = answer === 'granted';
    const message = `mirror ${this.#options.mirror} cannot be dropped: `;
    if (answer === 'refused') throw new UnderstudyError('Fenced', `${message}a newer epoch exists`);
    if (answer === 'unreachable') {
      throw new UnderstudyError('Unavailable', `${message}the arbiter does not answer; try again`);
    }
  }

  #about(epoch: number) {
    const { identity, mirror } = this.#options;
    const { volume, uid } = identity;
    return { volume, uid, epoch, mirror };
  }
}
