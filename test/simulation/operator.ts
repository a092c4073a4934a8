import { errorMessage } from '../../common/errors.ts';
import type { Random } from '../support/random.ts';
import { carrierName, followerName } from './follower.ts';
import { type SimulatedNode, specOf } from './node.ts';
import { ProcessScope } from './process-scope.ts';
import type { ArbiterObject, CopyState } from './simulated-arbiter.ts';
import type { World } from './world.ts';

/**
 * Brings every copy to what the arbiter's object says, again and again, and promotes: prepare, swap, PUT (rule 3). It may
 * stop anywhere in the middle of a promotion; the next round begins with what it then finds.
 */
export class SimulatedOperator {
  readonly #world: World;
  readonly #random: Random;
  #busy = false;
  /** When the primary was last seen. */
  #seenMs = 0;
  readonly #scope: ProcessScope;
  /** The most that it hangs before each step: one that is slow acts on what it saw long ago. */
  readonly #slownessMs: number;

  constructor(world: World, random: Random, slownessMs = 0) {
    this.#world = world;
    this.#random = random;
    this.#scope = new ProcessScope(world.scheduler);
    this.#slownessMs = slownessMs;
  }

  start(): void {
    this.#scope.clock.after(roundMs * (0.5 + this.#random.fraction()), () => {
      void this.reconcile();
      this.start();
    });
  }

  /** Its process ends, whatever it is in the middle of. */
  die(): void {
    this.#scope.end();
  }

  /** One round. */
  async reconcile(): Promise<void> {
    const { object } = this.#world.arbiter;
    const primary = this.#world.node(object.primary);
    await this.#bring(primary, object);
    await this.#pause();
    // A standby that knew a newer epoch than its primary would fence it.
    if ((primary.record?.epoch ?? 0) === object.epoch || !primary.isUp) {
      const others = this.#world.nodes.filter((node) => node !== primary && primary.record);
      const { follower } = this.#world;
      // Nobody tells the copy behind an asynchronous mirror of an epoch that its source may not know yet.
      const told = primary.record?.epoch === object.epoch && this.#carrierKnows(object.epoch);
      const all = follower && told ? [follower.node, ...others] : others;
      await Promise.all(all.map((node) => this.#bring(node, object)));
    }
    await this.#pause();
    await this.#renewIfRefused(object);
    await this.#failOver(primary);
    await this.#discard(object);
  }

  /** Someone has looked at what only a copy has that was given up, and says that it is not needed. */
  async #discard(object: ArbiterObject): Promise<void> {
    const { arbiter, nodes, splitBrain, trace } = this.#world;
    const node = nodes.find((each) => splitBrain.isFound(each));
    if (!node || arbiter.object !== object || this.#random.chance(0.6)) return;
    splitBrain.discarding(node);
    const { [node.name]: _, ...divergent } = object.divergent ?? {};
    trace.note(
      'operator',
      `what only ${node.name} has is given up: ${await arbiter.swap(object, { ...object, divergent })}`,
    );
  }

  #sees(node: SimulatedNode): boolean {
    return node.isUp && !this.#world.unseen.has(node.name);
  }

  /** Never ends once the process has. */
  async #pause(): Promise<void> {
    if (!this.#scope.alive) await new Promise<never>(() => undefined);
    if (this.#slownessMs > 0)
      await this.#scope.guard(() => this.#world.scheduler.delay(this.#random.below(this.#slownessMs)));
  }

  /** A primary that stays away is replaced by whichever standby may be promoted. */
  async #failOver(primary: SimulatedNode): Promise<void> {
    const { scheduler, nodes, trace } = this.#world;
    if (this.#sees(primary)) this.#seenMs = scheduler.nowMs;
    if (scheduler.nowMs - this.#seenMs < failOverAfterMs) return;
    trace.note('operator', `${primary.name} is away`);
    for (const node of nodes) if (node !== primary && this.#sees(node)) await this.promote(node, false);
  }

  /** Takes a mirror from the primary for a while, or gives it another address; the next round puts it back. */
  async changeMirrors(which: SimulatedNode, how: 'drop' | 'move'): Promise<void> {
    const { nodes, config, arbiter, trace } = this.#world;
    const primary = this.#world.node(arbiter.object.primary);
    const { record } = primary;
    if (!primary.isUp || record?.role !== 'primary' || record.epoch !== arbiter.object.epoch) return;
    const others = nodes.filter((node) => node !== primary && (how === 'move' || node !== which));
    const spec = specOf(config.volumeBytes, {
      role: 'primary',
      epoch: record.epoch,
      mirrors: others.map(({ name }) => name),
      follower: this.#followerOf(primary, 'primary'),
      bufferBytes: config.bufferBytes,
      sparse: config.sparse,
      arbitrated: config.arbiter === 'swap',
      port: how === 'move' ? 2 : 1,
    });
    trace.note('operator', `${how}s mirrors of ${primary.name}`);
    await primary.put(spec).catch((error: unknown) => trace.note('operator', `cannot ${how}: ${errorMessage(error)}`));
  }

  /**
   * Makes a standby primary that may miss what the primary acknowledged, which is given up; that must be off meanwhile.
   * @returns whether it has been done
   */
  async force(target: SimulatedNode): Promise<boolean> {
    const { arbiter, trace } = this.#world;
    const read = await arbiter.read();
    if (!read || read.primary === target.name || target.record?.role !== 'standby') return false;
    const epoch = Math.max(read.epoch, target.record.standby.preparedEpoch ?? 0) + 1;
    const prepared = await this.#timely(target.prepare(epoch)).catch(() => undefined);
    trace.note('operator', `${target.name} is prepared by force: ${JSON.stringify(prepared)}`);
    // One that has never been in sync holds nothing at all.
    if (!prepared?.consistent || prepared.dataEpoch === 0) return false;
    const copies: Record<string, CopyState> = {};
    for (const { name } of this.#world.nodes) if (name !== target.name) copies[name] = 'Outdated';
    const { [target.name]: _, ...before } = read.divergent ?? {};
    const outcome = await arbiter.swap(
      read,
      { epoch, primary: target.name, copies, divergent: { ...before, [read.primary]: read.epoch } },
      {
        epoch,
        node: target.name,
        givenUp: read.primary,
        givenUpEpoch: read.epoch,
        dataEpoch: Math.min(prepared.dataEpoch, read.epoch),
      },
    );
    trace.note('operator', `forced to ${target.name}: ${outcome}`);
    return outcome === 'done';
  }

  /** Tries to make a standby primary; gives up wherever something is not as it must be. */
  async promote(target: SimulatedNode, abandon: boolean): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    try {
      await this.#promote(target, abandon);
    } catch (error) {
      this.#world.trace.note('operator', `promotion of ${target.name}: ${errorMessage(error)}`);
    } finally {
      this.#busy = false;
    }
  }

  async #promote(target: SimulatedNode, abandon: boolean): Promise<void> {
    const { arbiter, trace, config, scheduler } = this.#world;
    await this.#pause();
    const read = await arbiter.read();
    await this.#pause();
    if (!read || !this.#sees(target) || read.primary === target.name) return;
    if (config.arbiter === 'swap' && read.copies[target.name] !== 'InSync') return;
    const epoch = Math.max(read.epoch, target.record?.standby.preparedEpoch ?? 0) + 1;
    trace.note('operator', `prepares ${target.name} for ${epoch}`);
    const prepared = await this.#timely(target.prepare(epoch));
    trace.note('operator', `${target.name} is prepared: ${JSON.stringify(prepared)}`);
    if (!prepared?.clean || !prepared.consistent || prepared.dataEpoch !== read.epoch) return;
    await this.#pause();
    if (abandon) return;
    await scheduler.delay(this.#random.below(3) * 100);
    const copies: Record<string, CopyState> = {};
    for (const { name } of this.#world.nodes) if (name !== target.name) copies[name] = 'Outdated';
    const outcome = await arbiter.swap(read, { epoch, primary: target.name, copies, ...divergentOf(read) });
    trace.note('operator', `swap to ${target.name}: ${outcome}`);
    await this.#pause();
    if (outcome === 'done') await this.#bring(target, arbiter.object);
  }

  #carrierKnows(epoch: number): boolean {
    const { config } = this.#world;
    return config.follower !== 'cascade' || this.#world.node(carrierName).record?.epoch === epoch;
  }

  #followerOf(node: SimulatedNode, role: 'primary' | 'standby'): string | undefined {
    const { follower } = this.#world.config;
    const hasIt = follower === 'cascade' ? node.name === carrierName : follower === 'primary' && role === 'primary';
    return hasIt ? followerName : undefined;
  }

  async #bring(node: SimulatedNode, object: ArbiterObject): Promise<void> {
    const { config, nodes, trace } = this.#world;
    if (!this.#sees(node) || object.divergent?.[node.name] !== undefined) return;
    const role = node.name === object.primary ? 'primary' : 'standby';
    const { record } = node;
    // A standby has been prepared for more than the object says: a promotion was abandoned.
    const epoch = Math.max(object.epoch, role === 'standby' ? (record?.standby.preparedEpoch ?? 0) : 0);
    if (role === 'standby' && epoch > object.epoch) return;
    const mirrors = role === 'primary' ? nodes.map(({ name }) => name).filter((name) => name !== node.name) : [];
    const spec = specOf(config.volumeBytes, {
      role,
      epoch,
      mirrors,
      follower: this.#followerOf(node, role),
      bufferBytes: config.bufferBytes,
      sparse: config.sparse,
      arbitrated: config.arbiter === 'swap',
      acceptDataLoss: this.#world.arbiter.forced.some((order) => order.epoch === epoch && order.node === node.name),
    });
    try {
      await this.#timely(node.put(spec));
    } catch (error) {
      trace.note('operator', `${node.name} refuses: ${errorMessage(error)}`);
    }
  }

  /** After a promotion that was abandoned the standby refuses its primary, until that has a newer epoch as well. */
  async #renewIfRefused(object: ArbiterObject): Promise<void> {
    const { arbiter, nodes, trace } = this.#world;
    if (this.#busy || !this.#scope.alive) return;
    const prepared = Math.max(
      ...nodes.map((node) => (node.record?.role === 'standby' ? (node.record.standby.preparedEpoch ?? 0) : 0)),
    );
    if (prepared <= object.epoch || arbiter.object !== object) return;
    this.#busy = true;
    const copies: Record<string, CopyState> = {};
    for (const { name } of nodes) if (name !== object.primary) copies[name] = 'Outdated';
    const outcome = await arbiter.swap(object, { ...object, epoch: prepared, copies });
    trace.note('operator', `epoch ${prepared} for ${object.primary}: ${outcome}`);
    this.#busy = false;
  }

  #timely<T>(work: Promise<T>): Promise<T | undefined> {
    return Promise.race([work, this.#world.scheduler.delay(requestTimeoutMs).then(() => undefined)]);
  }
}

function divergentOf({ divergent }: ArbiterObject): Pick<ArbiterObject, 'divergent'> {
  return divergent === undefined ? {} : { divergent };
}

const roundMs = 4_000;
const failOverAfterMs = 2_000;
const requestTimeoutMs = 10_000;
