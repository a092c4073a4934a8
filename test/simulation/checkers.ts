import type { MirrorView } from '../../agent/api/contract/volumes.ts';
import { errorCode, errorMessage } from '../../common/errors.ts';
import type { PrimaryLife } from './history.ts';
import type { SimulatedNode } from './node.ts';
import type { World } from './world.ts';

/** Looks at disks and answers from outside the system, and says what contradicts the invariants. */
export class Checkers {
  readonly #world: World;
  /** Standbys that counted as in sync when last looked at, as "primary/life>standby". */
  #wereInSync = new Set<string>();

  constructor(world: World) {
    this.#world = world;
  }

  /** The standbys that a primary counts as in sync. It need not have noticed yet that the disks of one are gone. */
  inSync(primary: SimulatedNode): SimulatedNode[] {
    const names = (primary.device?.mirrors ?? []).filter(isInSync).map(({ name }) => name);
    return this.#world.nodes.filter((node) => names.includes(node.name) && !node.disksReplaced);
  }

  /** After every event: who serves now, and who has come in sync. */
  look(): void {
    const { nodes, history, restores } = this.#world;
    const areInSync = new Set<string>();
    for (const node of nodes) {
      const { device, life } = node;
      if (!device || !life) continue;
      if (life.phase === 'waiting' && !device.suspended && !node.record?.unusable) history.serves(life);
      if (!history.isCurrent(life)) continue;
      for (const { name } of device.mirrors.filter(isInSync)) {
        const key = `${life.life}>${name}`;
        areInSync.add(key);
        if (!this.#wereInSync.has(key)) this.#cameInSync(node, name);
      }
    }
    this.#wereInSync = areInSync;
    restores.look();
  }

  /** Invariant 1: what was acknowledged and flushed before it came in sync is on its stable storage. */
  #cameInSync(primary: SimulatedNode, name: string): void {
    const { history, violations, trace } = this.#world;
    const standby = this.#world.node(name);
    standby.disksReplaced = false;
    trace.note(name, `counts as in sync with ${primary.name}`);
    const image = standby.image('durable');
    image.forEach((stamp, sector) => {
      if (history.ledger.mayHold(sector, stamp, 0) || violations.list.length > 0) return;
      violations.report('1', `${name} came in sync, but on its disk ${history.ledger.describe(sector, stamp, 0)}`);
    });
  }

  /** Invariant 1: the flush has been answered. */
  flushed(primary: SimulatedNode, settled: ReadonlyMap<number, number>, standbys: readonly SimulatedNode[]): void {
    const stillInSync = this.inSync(primary);
    for (const node of [primary, ...standbys]) {
      if (node !== primary && !stillInSync.includes(node)) continue;
      for (const [sector, floor] of settled) this.#checkDurable(node, sector, floor);
    }
  }

  #checkDurable(node: SimulatedNode, sector: number, floor: number): void {
    const { ledger } = this.#world.history;
    const stamp = node.stampAt(sector, 'durable');
    if (ledger.mayHold(sector, stamp, floor)) return;
    this.#world.violations.report(
      '1',
      `flushed, but on the disk of ${node.name} ${ledger.describe(sector, stamp, floor)}`,
    );
  }

  /** Invariant 2: everything has been flushed and nothing is under way. */
  idle(primary: SimulatedNode, standbys: readonly SimulatedNode[]): void {
    const stillInSync = this.inSync(primary);
    const image = primary.image();
    for (const standby of standbys) {
      if (!stillInSync.includes(standby)) continue;
      const copy = standby.image();
      const sector = image.findIndex((stamp, at) => stamp !== copy[at]);
      if (sector < 0) continue;
      this.#world.violations.report(
        '2',
        `idle and in sync, but sector ${sector} is ${image[sector]} on ${primary.name} and ${copy[sector]} on ${standby.name}`,
      );
    }
  }

  /** Invariant 7: an operation of a client failed. */
  failed(node: SimulatedNode, life: PrimaryLife, error: unknown): void {
    const { violations, trace, arbiter } = this.#world;
    trace.note('client', `failed on ${node.name}: ${errorCode(error)} ${errorMessage(error)}`);
    if (node.dataTrouble || life.phase === 'past') return;
    if (errorCode(error) === 'NoSpace' && node.dataFull) return;
    if (errorCode(error) === 'Closed' && node.life !== life) return;
    if (errorCode(error) === 'Fenced' && arbiter.object.epoch > life.epoch) return;
    violations.report('7', `an operation on ${node.name} failed: ${errorCode(error)} ${errorMessage(error)}`);
  }
}

function isInSync({ state, mode }: MirrorView): boolean {
  return state === 'InSync' && mode === 'synchronous';
}
