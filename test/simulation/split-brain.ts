import { errorMessage } from '../../common/errors.ts';
import type { PrimaryLife } from './history.ts';
import type { SimulatedNode } from './node.ts';
import { readSnapshot } from './snapshot-checker.ts';
import type { World } from './world.ts';

/**
 * What holds of a copy that was given up by a promotion that accepted a loss, when it comes back: it acknowledges nothing
 * once it has heard of the newer epoch, and what it holds stays as it was, until somebody gives that up; then it is kept as a
 * snapshot, if the copy has a buffer.
 */
export class SplitBrain {
  readonly #world: World;
  /** The newest life as a primary of each node. */
  readonly #lives = new Map<string, PrimaryLife>();
  readonly #kept: { readonly node: SimulatedNode; readonly snapshot: string; readonly image: Int32Array }[] = [];
  discarded = 0;

  constructor(world: World) {
    this.#world = world;
  }

  lives(life: PrimaryLife): void {
    this.#lives.set(life.node, life);
  }

  /** Whether it has found out that it is not the primary any more. */
  isFound({ name, record, isEmpty }: SimulatedNode): boolean {
    const isDivergent = this.#world.arbiter.object.divergent?.[name] !== undefined;
    return isDivergent && (isEmpty || record?.unusable?.state === 'Fenced');
  }

  /** Somebody is about to give up what only this copy has. */
  discarding(node: SimulatedNode): void {
    this.discarded += 1;
    const order = this.#lives.get(node.name)?.order;
    if (node.dataTrouble || node.isEmpty || !order) return;
    const image = node.image();
    const contradiction = order.contradiction(image);
    if (contradiction !== undefined) {
      const what = `${node.name} was given up by a promotion, and does not hold what it held then`;
      this.#world.violations.report('split brain', `${what}: ${contradiction}`);
    }
    this.#kept.push({ node, snapshot: `former-epoch-${node.record?.epoch}`, image });
  }

  forget(node: SimulatedNode): void {
    for (let at = this.#kept.length - 1; at >= 0; at -= 1) if (this.#kept[at]?.node === node) this.#kept.splice(at, 1);
  }

  /** At the end: what was kept of them. */
  async checkKept(): Promise<void> {
    const { violations } = this.#world;
    for (const { node, snapshot, image } of this.#kept) {
      const cow = node.copy?.stack.cow;
      if (!cow || node.bufferTrouble || cow.snapshot(snapshot)?.state !== 'Ready') continue;
      try {
        const found = await node.scope.guard(() => readSnapshot(cow, snapshot));
        const sector = image.findIndex((stamp, at) => stamp !== found[at]);
        if (sector >= 0)
          violations.report(
            'split brain',
            `${snapshot} of ${node.name} has ${found[sector]} at ${sector}, not ${image[sector]}`,
          );
      } catch (error) {
        violations.report('split brain', `${snapshot} of ${node.name} cannot be read: ${errorMessage(error)}`);
      }
    }
  }
}
