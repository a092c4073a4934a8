import { errorCode, errorMessage } from '../../common/errors.ts';
import type { Random } from '../support/random.ts';
import type { PrimaryLife } from './history.ts';
import type { Change } from './ledger.ts';
import type { SimulatedNode } from './node.ts';
import { sectorBytes } from './stamps.ts';
import type { World } from './world.ts';

/**
 * Restores in place, under everything else that goes wrong. To the history a restore is a write of all that the snapshot
 * holds, which is under way until the volume is offered again: then each sector is what it was in the snapshot, at the
 * primary and, on stable storage, at every standby in sync. Until then nobody is offered the volume, whoever is the primary.
 */
export class Restores {
  readonly #world: World;
  readonly #random: Random;
  /** What the snapshot of each one held. */
  readonly #images = new Map<string, Int32Array>();
  /** Those that are under way in a life of a primary. */
  readonly #underWay = new Map<PrimaryLife, { readonly name: string; readonly changes: readonly Change[] }>();
  /** One whose primary's life may have ended in the middle of it, and what the volume held before it. */
  #half: { readonly name: string; readonly before: Int32Array } | undefined;
  readonly #seen = new WeakSet<PrimaryLife>();
  readonly #givingUp = new Set<PrimaryLife>();
  #number = 0;
  #beginning = false;
  done = 0;

  constructor(world: World, random: Random) {
    this.#world = world;
    this.#random = random;
  }

  /** A restore is under way, or about to be: the volume is offered to nobody. */
  get isUnderWay(): boolean {
    const primary = this.#primary();
    return this.#beginning || primary?.restore?.obstacle !== undefined;
  }

  begin(): void {
    const primary = this.#primary();
    if (!primary || this.#beginning) return;
    const standbys = this.#world.checkers.inSync(primary);
    const chosen = this.#world.snapshots.choose([primary, ...standbys]);
    if (!chosen) return;
    this.#number += 1;
    const name = `r${this.#number}`;
    this.#images.set(name, chosen.image);
    this.#beginning = true;
    void this.#begin(primary, name, chosen.name, chosen.node === primary ? undefined : chosen.node.name).finally(() => {
      this.#beginning = false;
    });
  }

  /** After every event. */
  look(): void {
    for (const node of this.#world.nodes) {
      const { life, restore, record } = node;
      const marker = record?.restore;
      if (!life || !restore || !node.device || life.phase === 'past') continue;
      this.#first(node, life);
      if (!marker) continue;
      if (marker.state === 'Running') this.#goesOn(life, marker.name);
      else if (marker.state === 'Failed') this.#giveUp(node, life);
      else if (restore.obstacle === undefined && this.#world.history.isCurrent(life))
        this.#over(node, life, marker.state);
    }
  }

  /** A life of a primary begins: nobody is offered what is half restored. */
  #first(node: SimulatedNode, life: PrimaryLife): void {
    if (this.#seen.has(life)) return;
    this.#seen.add(life);
    const half = this.#half;
    const wanted = half && this.#images.get(half.name);
    const marker = node.record?.restore;
    if (!half || !wanted || node.restore?.obstacle !== undefined || node.dataTrouble) return;
    if (this.#world.arbiter.forced.some(({ epoch }) => epoch === life.epoch) || this.#world.history.isGivenUp(life))
      return;
    const image = node.image();
    if (marker?.name === half.name) {
      // It ended, and the process with it before anybody was offered the volume.
      this.#half = undefined;
      if (marker.state === 'Done') this.#compare(half.name, wanted, node.name, image);
      return;
    }
    const sector = image.findIndex((stamp, at) => stamp === wanted[at] && stamp !== half.before[at]);
    if (sector < 0) return;
    const what = `${node.name} offers the volume, and sector ${sector} is ${image[sector]} as in the snapshot`;
    this.#world.violations.report(
      'restore',
      `${half.name} was under way: ${what}; it was ${half.before[sector]} before`,
    );
  }

  #primary(): SimulatedNode | undefined {
    return this.#world.nodes.find((node) => node.device && node.life && this.#world.history.isCurrent(node.life));
  }

  /** Whoever uses the volume stops first. */
  async #begin(primary: SimulatedNode, name: string, snapshot: string, mirror: string | undefined): Promise<void> {
    const { scheduler, workload, trace } = this.#world;
    const { restore } = primary;
    if (!restore) return;
    const offeredMs = scheduler.nowMs;
    while (primary.users > 0) {
      if (scheduler.nowMs > offeredMs + longestUseMs || primary.restore !== restore) return;
      await scheduler.delay(pollMs);
    }
    trace.note('restores', `${name} of ${snapshot} on ${mirror ?? primary.name}`);
    const request = { name, snapshot, allowInUse: false, ...(mirror === undefined ? {} : { mirror }) };
    const answer = primary.scope
      .guard(() => restore.begin(request))
      .then(
        () => 'has begun',
        (error: unknown) => `${errorCode(error)} ${errorMessage(error)}`,
      );
    const outcome = await Promise.race([answer, scheduler.delay(replyMs).then(() => 'says nothing')]);
    trace.note('restores', `${name} ${outcome}, after ${workload.done} operations`);
  }

  #goesOn(life: PrimaryLife, name: string): void {
    if (this.#underWay.get(life)?.name === name) return;
    const image = this.#images.get(name);
    if (!image) throw new Error(`nobody asked for restore ${name}`);
    const changes = runsOf(image).map(
      ({ from, to, stamp }): Change => ({
        offset: from * sectorBytes,
        length: (to - from) * sectorBytes,
        stamp,
        incarnation: life,
        index: 0,
        state: 'pending',
        survived: undefined,
      }),
    );
    this.#underWay.set(life, { name, changes });
    if (this.#half?.name !== name) this.#half = { name, before: this.#world.node(life.node).image() };
    this.#world.trace.note('restores', `${name} is under way on ${life.node}`);
    for (const change of changes) this.#world.history.issue(life, change);
  }

  #over(node: SimulatedNode, life: PrimaryLife, state: 'Done' | 'GivenUp'): void {
    const running = this.#underWay.get(life);
    if (!running) return;
    this.#underWay.delete(life);
    this.#half = undefined;
    const { history, trace, checkers } = this.#world;
    trace.note('restores', `${running.name} is ${state} on ${node.name}`);
    if (state === 'GivenUp') {
      for (const change of running.changes) history.ledger.fail(change);
      return;
    }
    for (const change of running.changes) history.acknowledge(life, change, true);
    this.done += 1;
    const image = this.#images.get(running.name);
    if (!image || node.dataTrouble) return;
    this.#compare(running.name, image, node.name, node.image());
    for (const standby of checkers.inSync(node))
      this.#compare(running.name, image, standby.name, standby.image('durable'));
  }

  #compare(name: string, wanted: Int32Array, where: string, found: Int32Array): void {
    const sector = wanted.findIndex((stamp, at) => stamp !== found[at]);
    if (sector < 0) return;
    const what = `sector ${sector} of ${where} is ${found[sector]}, and was ${wanted[sector]} in the snapshot`;
    this.#world.violations.report('restore', `${name} is done, but ${what}`);
  }

  /** It cannot be finished: somebody decides to go on with what there is. */
  #giveUp({ scope, restore }: SimulatedNode, life: PrimaryLife): void {
    if (this.#givingUp.has(life) || !restore) return;
    this.#givingUp.add(life);
    const afterMs = this.#random.below(2_000);
    this.#world.scheduler.after(afterMs, () => {
      void scope
        .guard(() => restore.giveUp())
        .catch((error: unknown) => this.#world.trace.note('restores', `cannot be given up: ${errorMessage(error)}`))
        .finally(() => this.#givingUp.delete(life));
    });
  }
}

function runsOf(image: Int32Array): { from: number; to: number; stamp: number }[] {
  const runs: { from: number; to: number; stamp: number }[] = [];
  for (let sector = 0; sector < image.length; sector += 1) {
    const stamp = image[sector] as number;
    const last = runs.at(-1);
    if (last?.stamp === stamp) last.to = sector + 1;
    else runs.push({ from: sector, to: sector + 1, stamp });
  }
  return runs;
}

const pollMs = 20;
const longestUseMs = 5_000;
const replyMs = 20_000;
