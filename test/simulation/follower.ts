import type { MirrorView } from '../../agent/api/contract/volumes.ts';
import { errorCode } from '../../common/errors.ts';
import type { SimulatedNode } from './node.ts';
import { readSnapshot } from './snapshot-checker.ts';
import type { World } from './world.ts';
import type { WriteOrder } from './write-order.ts';

export const followerName = 'node-x';
/** The copy that always has the follower behind it, in a cascade. */
export const carrierName = 'node-b';

/**
 * The copy behind an asynchronous mirror, and what must hold of it: whatever happens, its disk is what the disk of some
 * primary could have been at some moment, or its safety snapshot is.
 */
export class Follower {
  readonly node: SimulatedNode;
  readonly #world: World;
  /** Of every life of a primary. */
  readonly #orders: { readonly who: string; readonly order: WriteOrder }[] = [];
  /** It has been the image of a moment since its disks were new. */
  #wasConsistent = false;
  checks = 0;

  constructor(world: World, node: SimulatedNode) {
    this.#world = world;
    this.node = node;
  }

  lives(who: string, order: WriteOrder): void {
    this.#orders.push({ who, order });
  }

  /** The mirror to it, as its source shows it. */
  get mirror(): MirrorView | undefined {
    return this.source?.copy?.role.mirror?.mirrors.find(({ name }) => name === followerName);
  }

  /** Whoever has the mirror to it. */
  get source(): SimulatedNode | undefined {
    const { config, arbiter } = this.#world;
    return this.#world.node(config.follower === 'cascade' ? carrierName : arbiter.object.primary);
  }

  /** Names of mirrors on the way to it, for a snapshot. */
  get path(): readonly string[] {
    const { config, arbiter } = this.#world;
    const direct = config.follower !== 'cascade' || arbiter.object.primary === carrierName;
    return direct ? [followerName] : [carrierName, followerName];
  }

  /** New disks. */
  forget(): void {
    this.#wasConsistent = false;
  }

  start(): void {
    const { scheduler } = this.#world;
    scheduler.after(300 + 400 * Math.abs(Math.sin(scheduler.nowMs)), () => {
      this.check();
      this.start();
    });
  }

  check(): void {
    const { node } = this;
    const record = node.isUp ? node.record : undefined;
    if (!record || node.dataTrouble || node.dataFull || record.standby.blank) return;
    if (record.standby.consistent) {
      this.#wasConsistent = true;
      this.#fits(node.image(), 'its disk');
      // What a crash would leave, if it took everything that it may.
      this.#fits(node.image('durable'), 'its disk after a crash');
      return;
    }
    if (this.#wasConsistent) this.#checkSafety();
  }

  #fits(image: Int32Array, what: string): void {
    this.checks += 1;
    const contradictions: string[] = [];
    for (const { who, order } of this.#orders) {
      const contradiction = order.contradiction(image);
      if (contradiction === undefined) return;
      contradictions.push(`${who}: ${contradiction}`);
    }
    this.#world.violations.report(
      'asynchronous',
      `${what} counts as consistent and is the image of no moment of any primary: ${contradictions.join('; ')}`,
    );
  }

  #checkSafety(): void {
    const { node } = this;
    const { config, violations } = this.#world;
    // A buffer that has failed or may be full loses snapshots, visibly.
    if (node.bufferTrouble || config.bufferBytes < 10 * config.volumeBytes) return;
    const cow = node.copy?.stack.cow;
    const safety = cow?.snapshot('safety');
    if (!cow || safety?.state === 'Pending') return;
    if (safety?.state !== 'Ready') {
      violations.report('asynchronous', `no safety snapshot (${safety?.reason ?? 'none'}) in the middle of a resync`);
      return;
    }
    void node.scope
      .guard(() => readSnapshot(cow, 'safety'))
      .then(
        (image) => {
          if (cow.snapshot('safety')?.state === 'Ready') this.#fits(image, 'its safety snapshot');
        },
        (error: unknown) => this.#world.trace.note('follower', `safety snapshot: ${errorCode(error)}`),
      );
  }
}
