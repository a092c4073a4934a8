import type { Clock, Timer } from '../../common/clock.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { GroupHoldView } from '../api/contract/groups.ts';

/** What is held, and can say when everything that came before is in the stream of writes. */
export interface Holdable {
  /** @returns what ends the hold */
  hold(): () => void;
  /** Resolves when every operation that was called before has its place in the stream. */
  inOrder(): Promise<void>;
}

interface Attempt {
  readonly name: string;
  readonly sinceMs: number;
  readonly end: () => void;
  readonly deadline: Timer;
  readonly ended: PromiseWithResolvers<void>;
  /** Every operation that is not held has its place in the stream. */
  isInForce: boolean;
}

/** Ended attempts that are remembered, for answers that got lost. */
const maxRemembered = 64;

/**
 * The acknowledgements of one primary, held for the attempt of a snapshot group.
 *
 * Invariants
 * - One attempt at a time, and each at most once: one that has ended is not begun again while it is remembered.
 * - Once `hold` has answered, whatever was called before has its place in front of every barrier that is sent from then on,
 *   and whatever is called later is not acknowledged before the attempt ends.
 * - An attempt ends at its deadline by itself, and with the role of the copy; it then is Void, for good. Released is
 *   answered only if nothing was let go between `hold` and `release`.
 * - Attempts live in memory: after a restart, or at another primary, none is known.
 */
export class AcknowledgementHolds {
  readonly #volume: string;
  readonly #clock: Clock;
  #current: Attempt | undefined;
  readonly #ended = new Map<string, GroupHoldView>();

  constructor(volume: string, clock: Clock) {
    this.#volume = volume;
    this.#clock = clock;
  }

  /**
   * Holds acknowledgements for an attempt, for `deadlineMs` at most. Again for the same attempt: answers how it stands.
   * @throws UnderstudyError Conflict (another attempt, or over already), Timeout (writes wait, for a standby or a disk)
   */
  async hold(name: string, deadlineMs: number, device: Holdable): Promise<GroupHoldView> {
    const known = this.#current;
    if (known?.name === name) return this.#holding(known);
    if (known) throw this.#conflict(`acknowledgements are held for attempt ${known.name} of a group; try again`);
    if (this.#ended.has(name)) throw this.#conflict(`attempt ${name} is over; make another one`);
    const attempt = this.#begin(name, deadlineMs, device);
    try {
      await Promise.race([device.inOrder(), attempt.ended.promise]);
    } catch (error) {
      this.letGo(errorMessage(error));
    }
    if (this.#current !== attempt) {
      const reason = this.#ended.get(name)?.reason ?? 'the attempt ended';
      throw new UnderstudyError(
        'Timeout',
        `volume ${this.#volume}: earlier writes have not got their place: ${reason}`,
      );
    }
    attempt.isInForce = true;
    return this.#holding(attempt);
  }

  #begin(name: string, deadlineMs: number, device: Holdable): Attempt {
    const expire = () => this.letGo(`acknowledgements were held for ${deadlineMs} ms, until the deadline`);
    const attempt: Attempt = {
      name,
      sinceMs: this.#clock.monotonicMs(),
      end: device.hold(),
      deadline: this.#clock.after(deadlineMs, expire),
      ended: Promise.withResolvers(),
      isInForce: false,
    };
    this.#current = attempt;
    return attempt;
  }

  /** Refuses a barrier of a group unless acknowledgements are held for it. @throws UnderstudyError Conflict */
  require(name: string): void {
    if (this.#current?.name === name && this.#current.isInForce) return;
    throw this.#conflict(
      `acknowledgements are not held for attempt ${name} of a group, so that no snapshot of it is taken`,
    );
  }

  /** Ends an attempt, or answers how it ended. @throws UnderstudyError NotFound (before a restart, or of another copy) */
  release(name: string): GroupHoldView {
    const current = this.#current;
    if (current?.name === name) this.#end(current.isInForce ? undefined : 'it was given up before it was in force');
    const ended = this.#ended.get(name);
    if (ended) return ended;
    throw new UnderstudyError('NotFound', `volume ${this.#volume}: no attempt ${name} of a group is known here`);
  }

  /** Ends the attempt under way, if there is one, as void. */
  letGo(reason: string): void {
    if (this.#current) this.#end(reason);
  }

  #end(reason: string | undefined): void {
    const attempt = this.#current;
    if (!attempt) return;
    this.#current = undefined;
    attempt.deadline.cancel();
    attempt.end();
    const outcome = reason === undefined ? ({ state: 'Released' } as const) : ({ state: 'Void', reason } as const);
    this.#ended.set(attempt.name, { ...this.#view(attempt), ...outcome });
    const oldest = this.#ended.keys().next();
    if (this.#ended.size > maxRemembered && !oldest.done) this.#ended.delete(oldest.value);
    attempt.ended.resolve();
  }

  #holding(attempt: Attempt): GroupHoldView {
    return { ...this.#view(attempt), state: 'Holding' };
  }

  #view({ name, sinceMs }: Attempt): { attempt: string; heldMs: number } {
    return { attempt: name, heldMs: this.#clock.monotonicMs() - sinceMs };
  }

  #conflict(message: string): UnderstudyError {
    return new UnderstudyError('Conflict', `volume ${this.#volume}: ${message}`);
  }
}
