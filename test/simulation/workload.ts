import type { Random } from '../support/random.ts';
import type { PrimaryLife } from './history.ts';
import type { Change } from './ledger.ts';
import type { SimulatedNode } from './node.ts';
import { garbage, readStamp, sectorBytes, writeStamps } from './stamps.ts';
import type { World } from './world.ts';

export interface WorkloadOptions {
  readonly clients: number;
  readonly thinkMs: number;
  readonly maxSectors: number;
}

/** Clients that write, zero, trim, flush and read on whatever takes itself for the primary, and check what they get. */
export class Workload {
  readonly #world: World;
  readonly #random: Random;
  readonly #options: WorkloadOptions;
  #stamp = 0;
  #running = false;
  /** Operations asked for and not answered. */
  #underWay = 0;
  #started = 0;
  done = 0;

  constructor(world: World, random: Random, options: WorkloadOptions) {
    this.#world = world;
    this.#random = random;
    this.#options = options;
  }

  get underWay(): number {
    return this.#underWay;
  }

  start(): void {
    this.#running = true;
    for (let client = 0; client < this.#options.clients; client += 1) this.#next();
  }

  stop(): void {
    this.#running = false;
  }

  /** One operation after the other, each some time after the answer to the one before. */
  #next(): void {
    if (!this.#running) return;
    const burst = this.#random.chance(0.5);
    this.#world.scheduler.after(burst ? 0 : this.#random.fraction() * this.#options.thinkMs * 2, () => {
      if (!this.#running) return;
      const node = this.#underWay < maxUnderWay ? this.#chooseNode() : undefined;
      // Whoever gets no answer (the process may be dead, or the volume suspended) goes on after a time.
      const timeout = this.#world.scheduler.after(clientTimeoutMs, () => this.#next());
      if (!node) return;
      void this.#operate(node).finally(() => {
        if (timeout.isOver()) return;
        timeout.cancel();
        this.#next();
      });
    });
  }

  #chooseNode(): SimulatedNode | undefined {
    const { restores } = this.#world;
    const offered = (node: SimulatedNode) => !restores.isUnderWay && node.restore?.obstacle === undefined;
    const nodes = this.#world.nodes.filter((node) => node.device && node.life && offered(node));
    if (nodes.length === 0) return undefined;
    return this.#random.pick(nodes);
  }

  async #operate(node: SimulatedNode): Promise<void> {
    const { device, life, scope } = node;
    if (!device || !life) return;
    this.#underWay += 1;
    this.#started += 1;
    node.users += 1;
    const settle = scope.onEnd(() => {
      this.#underWay -= 1;
    });
    try {
      await scope.guard(() => this.#any(node, life));
      this.done += 1;
    } catch (error) {
      this.#world.checkers.failed(node, life, error);
    } finally {
      settle();
      this.#underWay -= 1;
      if (scope.alive) node.users -= 1;
    }
  }

  async #any(node: SimulatedNode, life: PrimaryLife): Promise<void> {
    const draw = this.#random.fraction();
    if (draw < 0.55) return this.#write(node, life);
    if (draw < 0.65) return this.#zero(node, life);
    if (draw < 0.8) return this.flush(node, life);
    return this.#read(node, life);
  }

  #range(): { offset: number; length: number } {
    const { sectors } = this.#world.history.ledger;
    const { maxSectors } = this.#options;
    const length = this.#random.chance(0.7) ? 1 + this.#random.below(16) : 1 + this.#random.below(maxSectors);
    // Some places are written to again and again, so that operations overlap.
    const offset = this.#random.chance(0.5) ? this.#random.below(Math.min(256, sectors)) : this.#random.below(sectors);
    return { offset: offset * sectorBytes, length: Math.min(length, sectors - offset) * sectorBytes };
  }

  #change(life: PrimaryLife, range: { offset: number; length: number }, stamp: number): Change {
    return { ...range, stamp, incarnation: life, index: 0, state: 'pending', survived: undefined };
  }

  async #write(node: SimulatedNode, life: PrimaryLife): Promise<void> {
    this.#stamp += 1;
    const range = this.#range();
    const data = writeStamps(this.#stamp, range.offset, range.length);
    const fua = this.#random.chance(0.15);
    const change = this.#change(life, range, this.#stamp);
    await this.#perform(node, life, change, fua, () => node.device?.write(range.offset, data, { fua }));
    // From here on the buffer is the client's again.
    data.fill(0xee);
  }

  async #zero(node: SimulatedNode, life: PrimaryLife): Promise<void> {
    const range = this.#range();
    const { offset, length } = range;
    const change = this.#change(life, range, 0);
    const draw = this.#random.below(3);
    const fua = draw === 0;
    await this.#perform(node, life, change, fua, () => {
      if (draw === 2) return node.device?.trim(offset, length);
      return node.device?.writeZeroes(offset, length, { fua, keepAllocated: draw === 0 });
    });
  }

  async #perform(
    node: SimulatedNode,
    life: PrimaryLife,
    change: Change,
    fua: boolean,
    operate: () => Promise<void> | undefined,
  ): Promise<void> {
    const { history, trace, arbiter, violations } = this.#world;
    const refused = arbiter.refused.has(node.scope);
    history.issue(life, change);
    trace.note(
      'client',
      `${node.name} ${change.stamp === 0 ? 'zero' : `write ${change.stamp}`} ${change.offset}+${change.length}${fua ? ' fua' : ''}`,
    );
    try {
      await operate();
    } catch (error) {
      history.ledger.fail(change);
      throw error;
    }
    if (refused && history.isGivenUp(life))
      violations.report('split brain', `${node.name} acknowledges a write, and knows of a newer epoch`);
    trace.note('client', `${node.name} done ${change.stamp} ${change.offset}+${change.length}`);
    history.acknowledge(life, change, fua);
  }

  async flush(node: SimulatedNode, life: PrimaryLife): Promise<void> {
    const { history, trace, checkers } = this.#world;
    const settle = history.isCurrent(life) ? history.ledger.flush() : undefined;
    const started = this.#started;
    const alone = this.#underWay === 1;
    const standbys = checkers.inSync(node);
    trace.note('client', `${node.name} flush`);
    const answered = life.order.flush();
    await node.device?.flush();
    answered();
    trace.note('client', `${node.name} flushed`);
    if (!settle || !history.isCurrent(life)) return;
    checkers.flushed(node, settle(), standbys);
    if (alone && started === this.#started) checkers.idle(node, standbys);
  }

  async #read(node: SimulatedNode, life: PrimaryLife): Promise<void> {
    const { history, violations } = this.#world;
    const { ledger } = history;
    const { offset, length } = this.#range();
    const promised = history.isCurrent(life) ? ledger.promised(offset, length) : undefined;
    const target = Buffer.alloc(length, 0xff);
    await node.device?.read(offset, target);
    if (!promised || !history.isCurrent(life)) return;
    promised.forEach((floor, index) => {
      const sector = offset / sectorBytes + index;
      const stamp = readStamp(target.subarray(index * sectorBytes, (index + 1) * sectorBytes), sector);
      if (stamp !== garbage && ledger.mayHold(sector, stamp, floor)) return;
      violations.report('read', `${node.name} read: ${ledger.describe(sector, stamp, floor)}`);
    });
  }
}

/** A client that gets no answer from a dead process goes on after this time. */
const clientTimeoutMs = 4_000;
const maxUnderWay = 24;
