import { type Change, type Incarnation, Ledger, type Loss } from './ledger.ts';
import type { ForcedPromotion } from './simulated-arbiter.ts';
import type { Violations } from './violations.ts';
import { WriteOrder } from './write-order.ts';

/** A primary's process as the history sees it. */
export interface PrimaryLife extends Incarnation {
  /** What its disk held when it started, until it has begun to serve. */
  image: Int32Array | undefined;
  readonly loss: Loss;
  readonly durable: boolean;
  /** waiting: it serves nothing yet. past: a newer epoch has begun, or its process is gone. */
  phase: 'waiting' | 'current' | 'past';
  /** Asked for while it waited. */
  queued: Change[];
  readonly order: WriteOrder;
}

/**
 * Which primary's word counts. The history goes on with a primary when it begins to serve: from there on what it found
 * on its disk is the volume, and it must be a continuation of what was acknowledged before.
 */
export class History {
  readonly ledger: Ledger;
  readonly #violations: Violations;
  readonly #forced: readonly ForcedPromotion[];
  #current: PrimaryLife | undefined;
  /** What the crashes since it last served may have taken from the node that serves. */
  #loss: Loss = 'nothing acknowledged';
  #machineCrashed = false;

  constructor(
    volumeBytes: number,
    firstPrimary: string,
    violations: Violations,
    forced: readonly ForcedPromotion[] = [],
  ) {
    this.#forced = forced;
    this.ledger = new Ledger(volumeBytes, { node: firstPrimary, epoch: 1, life: 0 });
    this.#violations = violations;
  }

  isCurrent(life: PrimaryLife): boolean {
    return life === this.#current;
  }

  get epoch(): number {
    return this.ledger.current.epoch;
  }

  /** The process of a node ended, in order or not. */
  ended(node: string, life: PrimaryLife | undefined, machine: boolean): void {
    if (life) this.#isOver(life);
    if (node !== this.ledger.current.node || !machine) return;
    this.#loss = 'what was not flushed';
    this.#machineCrashed = true;
  }

  /** A node starts as a primary over a disk with this image. */
  started(node: string, epoch: number, life: number, image: Int32Array, synced: boolean): PrimaryLife {
    const samePlace = node === this.ledger.current.node;
    return {
      node,
      epoch,
      life,
      image,
      loss: samePlace ? this.#loss : 'nothing acknowledged',
      durable: synced || (samePlace && this.#machineCrashed) || !samePlace,
      phase: 'waiting',
      queued: [],
      order: new WriteOrder(image),
    };
  }

  /** It serves: its writes count from here on. */
  serves(life: PrimaryLife): void {
    if (life.phase !== 'waiting' || !life.image) return;
    const { node, epoch } = this.ledger.current;
    if (this.isGivenUp(life)) {
      this.#isOver(life);
      return;
    }
    if (life.epoch < epoch || (life.epoch === epoch && life.node !== node)) {
      this.#violations.report(
        '5',
        `${life.node} serves as primary of epoch ${life.epoch}, ${node} did in epoch ${epoch}`,
      );
      this.#isOver(life);
      return;
    }
    if (this.#current && this.#current !== life) this.#isOver(this.#current);
    const forced = this.#forced.find((order) => order.epoch === life.epoch && epoch < life.epoch);
    const wrong = forced
      ? this.ledger.goOnWithLoss(life, life.image, forced.dataEpoch)
      : this.ledger.goOn(life, life.image, life.loss, life.durable);
    if (wrong.length > 0) {
      this.#violations.report(
        life.node === node ? '5 (restart)' : '5/6 (promotion)',
        `${life.node} serves in epoch ${life.epoch} from a wrong image (${life.loss} may be lost): ${wrong.length} sectors; ${wrong.slice(0, 3).join('; ')}`,
      );
    }
    life.image = undefined;
    life.phase = 'current';
    this.#current = life;
    this.#loss = 'nothing acknowledged';
    this.#machineCrashed = false;
    for (const change of life.queued.splice(0)) this.ledger.issue(change);
  }

  /** Its word does not count any more; what it was asked for may be on its disk. */
  #isOver(life: PrimaryLife): void {
    life.phase = 'past';
    for (const change of life.queued.splice(0)) this.ledger.stray(change);
  }

  /** A promotion has given up what it acknowledges: nobody promises that any more. */
  isGivenUp({ node, epoch }: PrimaryLife): boolean {
    return this.#forced.some((order) => order.givenUp === node && epoch <= order.givenUpEpoch);
  }

  issue(life: PrimaryLife, change: Change): void {
    life.order.issue(change);
    if (life.phase === 'current') this.ledger.issue(change);
    else if (life.phase === 'past') this.ledger.stray(change);
    else life.queued.push(change);
  }

  acknowledge(life: PrimaryLife, change: Change, durable: boolean): void {
    life.order.acknowledge(change);
    this.serves(life);
    if (life.phase === 'current') return this.ledger.acknowledge(change, durable);
    if (change.survived !== true && !this.isGivenUp(life)) {
      this.#violations.report(
        '5',
        `${life.node} acknowledged write ${change.stamp} in epoch ${life.epoch}, which the primary of epoch ${this.epoch} does not have`,
      );
    }
  }
}
