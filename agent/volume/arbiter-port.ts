import type { Arbiter, ArbiterQuestion } from '../mirror/arbiter.ts';
import type { ArbiterAnswer } from '../mirror/mirror-state.ts';
import type { ThreadMessage } from './engine-calls.ts';

/**
 * The agent's arbiter as a volume's thread sees it: questions go to the main thread, where there is one connection for all
 * volumes, and answers come back by number. A question that is never answered is one that is under way: whoever asked
 * waits, as for an arbiter that takes its time.
 */
export class ArbiterPort {
  readonly #post: (message: ThreadMessage) => void;
  readonly #waiting = new Map<number, (answer: ArbiterAnswer) => void>();
  #nextId = 1;

  constructor(post: (message: ThreadMessage) => void) {
    this.#post = post;
  }

  get arbiter(): Arbiter {
    return {
      markOutdated: (question) => this.#ask('markOutdated', question),
      markInSync: (question) => this.#ask('markInSync', question),
      markDropped: (question) => this.#ask('markDropped', question),
    };
  }

  answered(id: number, answer: ArbiterAnswer): void {
    const resolve = this.#waiting.get(id);
    this.#waiting.delete(id);
    resolve?.(answer);
  }

  #ask(ask: keyof Arbiter, question: ArbiterQuestion): Promise<ArbiterAnswer> {
    const id = this.#nextId;
    this.#nextId += 1;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#post({ type: 'askArbiter', id, ask, question });
    });
  }
}
