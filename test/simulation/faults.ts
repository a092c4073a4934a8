import type { Random } from '../support/random.ts';
import type { attackFaults } from './attacks.ts';
import type { SimulatedNode } from './node.ts';
import type { World } from './world.ts';

/** How often which fault comes, as weights. */
export type FaultWeights = Readonly<Record<FaultKind, number>>;

export type FaultKind =
  | 'kill'
  | 'crash'
  | 'crash all'
  | 'restart'
  | 'cut'
  | 'cut one way'
  | 'heal'
  | 'arbiter down'
  | 'arbiter up'
  | 'promote'
  | 'partition and promote'
  | 'abandon promotion'
  | 'buffer fails'
  | 'buffer hangs'
  | 'buffer recovers'
  | 'data disk full'
  | 'data disk fails'
  | 'orderly restart'
  | 'drop mirror'
  | 'move mirror'
  | (typeof attackFaults)[number];

/** What goes wrong, when, and where. */
export class Faults {
  readonly #world: World;
  readonly #random: Random;
  readonly #weights: FaultWeights;
  readonly #everyMs: number;
  #stopped = false;

  constructor(world: World, random: Random, weights: FaultWeights, everyMs: number) {
    this.#world = world;
    this.#random = random;
    this.#weights = weights;
    this.#everyMs = everyMs;
  }

  start(): void {
    this.#world.scheduler.after(this.#random.fraction() * 2 * this.#everyMs, () => {
      if (this.#stopped) return;
      this.inject(this.#draw());
      this.start();
    });
  }

  stop(): void {
    this.#stopped = true;
  }

  #draw(): FaultKind {
    const kinds = Object.entries(this.#weights) as [FaultKind, number][];
    let left = this.#random.fraction() * kinds.reduce((sum, [, weight]) => sum + weight, 0);
    for (const [kind, weight] of kinds) {
      left -= weight;
      if (left < 0) return kind;
    }
    return 'heal';
  }

  inject(kind: FaultKind): void {
    const { everyNode, follower, network, trace, arbiter, operator, config } = this.#world;
    const node = this.#random.pick(everyNode);
    const other = this.#random.pick(everyNode.filter((each) => each !== node));
    trace.note('fault', `${kind} (${node.name}, ${other.name})`);
    switch (kind) {
      case 'kill':
        node.kill();
        return this.#bootLater(node);
      case 'crash':
        node.crash();
        return this.#bootLater(node);
      case 'crash all':
        for (const each of everyNode) {
          each.crash();
          this.#bootLater(each);
        }
        return;
      case 'restart':
        for (const each of everyNode) each.boot();
        return;
      case 'cut':
        network.cut(node.name, other.name);
        return network.cut(other.name, node.name);
      case 'cut one way':
        return network.cut(node.name, other.name);
      case 'heal':
        this.#world.reachAll();
        return network.heal();
      case 'arbiter down':
        arbiter.down = config.arbiter === 'swap';
        return;
      case 'arbiter up':
        arbiter.down = false;
        return;
      case 'promote':
        return node === follower?.node ? undefined : void operator.promote(node, false);
      case 'partition and promote':
        return this.#partitionAndPromote();
      case 'abandon promotion':
        return node === follower?.node ? undefined : void operator.promote(node, true);
      case 'buffer fails':
        node.bufferTrouble = true;
        node.bufferDisk.failing = this.#random.chance(0.5) ? { syncs: true } : { writes: true };
        return;
      case 'buffer hangs':
        node.bufferTrouble = true;
        return node.bufferDisk.hang();
      case 'buffer recovers':
        for (const each of everyNode) this.#recover(each);
        return;
      case 'data disk full':
        if (config.sparse) this.#fill(node);
        return;
      case 'data disk fails':
        if (everyNode.some((each) => each.dataTrouble)) return;
        node.dataTrouble = true;
        node.dataDisk.failing = this.#random.chance(0.5) ? { syncs: true } : { writes: true };
        this.#world.scheduler.after(this.#random.below(5_000), () => {
          node.dataDisk.failing = {};
        });
        return;
      case 'drop mirror':
        // Without an arbiter, dropping a mirror is the administrator's word that it will not be promoted.
        if (config.arbiter === 'swap') void operator.changeMirrors(node, 'drop');
        return;
      case 'move mirror':
        return void operator.changeMirrors(node, 'move');
      case 'clock jumps':
        node.skew.offsetMs += (this.#random.fraction() - 0.5) * 2 * longestJumpMs;
        return;
      case 'cut from arbiter':
        return void arbiter.cutFrom.add(node.name);
      case 'cut from operator':
        return void this.#world.unseen.add(node.name);
      case 'operator dies':
        return this.#world.replaceOperator(this.#random.below(8_000));
      case 'second operator':
        return this.#world.secondOperator(this.#random.below(20_000));
      case 'restore':
        return this.#restore();
      case 'force promotion':
        return void this.#force();
      case 'orderly restart':
        return void node.restart().catch(() => undefined);
    }
  }

  /** Everything that can be mended is mended. */
  mend(): void {
    const { everyNode, network, arbiter } = this.#world;
    network.heal();
    this.#world.reachAll();
    arbiter.down = false;
    arbiter.lossiness = 0;
    for (const node of everyNode) node.heldDown = false;
    for (const node of everyNode) {
      this.#recover(node);
      node.dataDisk.failing = {};
      node.dataDisk.capacityBytes = Number.POSITIVE_INFINITY;
      node.boot();
    }
  }

  /** The primary is cut off from its standbys, perhaps restarted, and one of them is promoted. */
  #partitionAndPromote(): void {
    const { nodes, network, arbiter, scheduler, operator } = this.#world;
    const primary = this.#world.node(arbiter.object.primary);
    const standbys = nodes.filter((node) => node !== primary);
    for (const { name } of standbys) {
      network.cut(primary.name, name);
      network.cut(name, primary.name);
    }
    const target = this.#random.pick(standbys);
    scheduler.after(this.#random.below(3_000), () => void operator.promote(target, false));
    if (this.#random.chance(0.5)) return;
    primary.kill();
    scheduler.after(this.#random.below(500), () => primary.boot());
  }

  /** The primary is switched off, and taken for lost: another copy is promoted, whatever it misses. */
  async #force(): Promise<void> {
    const { nodes, arbiter, scheduler, operator, config } = this.#world;
    const primary = this.#world.node(arbiter.object.primary);
    const targets = nodes.filter((node) => node !== primary && node.isUp && node.record?.role === 'standby');
    if (config.arbiter !== 'swap' || primary.heldDown || targets.length === 0) return;
    primary.heldDown = true;
    if (this.#random.chance(0.5)) primary.kill();
    else primary.crash();
    const target = this.#random.pick(targets);
    const order = operator.force(target).catch(() => false);
    await Promise.race([order, scheduler.delay(longestOrderMs)]);
    await scheduler.delay(this.#random.below(20_000));
    primary.heldDown = false;
    primary.boot();
  }

  /** Something often happens in the middle of it. */
  #restore(): void {
    const { arbiter, scheduler, restores } = this.#world;
    restores.begin();
    if (this.#random.chance(0.4)) return;
    scheduler.after(this.#random.below(3_000), () => {
      const primary = this.#world.node(arbiter.object.primary);
      if (!restores.isUnderWay) return;
      if (this.#random.chance(0.5)) primary.kill();
      else primary.crash();
      this.#bootLater(primary);
    });
  }

  #fill(node: SimulatedNode): void {
    node.dataFull = true;
    node.dataDisk.capacityBytes = node.dataDisk.usedBytes;
    this.#world.scheduler.after(this.#random.below(8_000), () => {
      node.dataDisk.capacityBytes = Number.POSITIVE_INFINITY;
    });
  }

  #recover(node: SimulatedNode): void {
    node.bufferDisk.failing = {};
    node.bufferDisk.resume();
  }

  #bootLater(node: SimulatedNode): void {
    const long = this.#random.chance(0.2) ? this.#random.below(25_000) : 0;
    this.#world.scheduler.after(long + this.#random.below(4) * this.#random.below(4_000), () => node.boot());
  }
}

const longestJumpMs = 3_600_000;
const longestOrderMs = 30_000;
