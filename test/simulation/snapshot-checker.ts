import type { CowDevice } from '../../agent/cow/cow-device.ts';
import type { MirrorDevice } from '../../agent/mirror/mirror-device.ts';
import { takeOn } from '../../agent/volume/standby-copy.ts';
import { errorCode, errorMessage } from '../../common/errors.ts';
import type { Random } from '../support/random.ts';
import type { BarrierPoint } from './ledger.ts';
import { sectorsOf } from './ledger.ts';
import { maxSnapshots, type SimulatedNode, volumeName } from './node.ts';
import { readStamps } from './stamps.ts';
import type { World } from './world.ts';

/** A snapshot that was asked for. */
interface Expected {
  readonly node: SimulatedNode;
  readonly name: string;
  readonly point: BarrierPoint;
  /** It was reported as Ready. */
  ready: boolean;
  /** What it was first read as. */
  image: Int32Array | undefined;
  deleting: boolean;
}

/** Takes, reads and deletes snapshots, and checks invariants 3 and 4 on them. */
export class SnapshotChecker {
  readonly #world: World;
  readonly #random: Random;
  #expected: Expected[] = [];
  #number = 0;

  constructor(world: World, random: Random) {
    this.#world = world;
    this.#random = random;
  }

  /** One action: a barrier, or a look at a snapshot, or a deletion. */
  act(): void {
    const draw = this.#random.fraction();
    if (draw < 0.5) this.#take();
    else if (draw < 0.8) this.checkSome();
    else this.#delete();
  }

  /** The node has new disks: what it held is gone. */
  forget(node: SimulatedNode): void {
    this.#expected = this.#expected.filter((expected) => expected.node !== node);
  }

  /** One that is known to be there, on one of these nodes, with what it holds. */
  choose(nodes: readonly SimulatedNode[]): { node: SimulatedNode; name: string; image: Int32Array } | undefined {
    const there = this.#expected.flatMap(({ node, name, image, deleting }) =>
      image && !deleting && nodes.includes(node) && node.copy?.stack.cow?.snapshot(name)?.state === 'Ready'
        ? [{ node, name, image }]
        : [],
    );
    return there.length === 0 ? undefined : this.#random.pick(there);
  }

  async checkAll(): Promise<void> {
    for (const expected of this.#expected) await this.#check(expected);
  }

  checkSome(): void {
    if (this.#expected.length === 0) return;
    void this.#check(this.#random.pick(this.#expected));
  }

  #take(): void {
    const { nodes, history, trace } = this.#world;
    const primary = nodes.find((node) => node.device && node.life && history.isCurrent(node.life));
    if (!primary?.device || this.#world.restores.isUnderWay) return;
    const { follower } = this.#world;
    const target = this.#random.pick(follower ? [...nodes, follower.node] : nodes);
    this.#number += 1;
    const name = `s${this.#number}`;
    const barrier = {
      snapshot: name,
      attempt: `a${this.#number}`,
      takenAt: new Date(this.#number).toISOString(),
      consistency: 'crash' as const,
    };
    const point = history.ledger.barrierPoint();
    const expected: Expected = { node: target, name, point, ready: false, image: undefined, deleting: false };
    this.#expected.push(expected);
    const { copy, device } = primary;
    const sent = (through: MirrorDevice, to: SimulatedNode) => {
      const [first = to.name, ...via] = to === follower?.node ? follower.path : [to.name];
      return through.barrier(first, via.length > 0 ? { ...barrier, via } : barrier);
    };
    trace.note('snapshots', `${name} of ${target.name}`);
    const taking = async () =>
      target === primary ? takeOn(copy?.stack.cow, volumeName, barrier) : sent(device, target);
    void primary.scope.guard(taking).then(
      () => {
        trace.note('snapshots', `${name} is ready`);
        expected.ready = true;
        void this.#check(expected);
      },
      (error: unknown) => trace.note('snapshots', `${name}: ${errorCode(error)} ${errorMessage(error)}`),
    );
  }

  #delete(): void {
    if (this.#expected.length === 0) return;
    const expected = this.#random.pick(this.#expected);
    const { node, name } = expected;
    const cow = node.isUp ? node.copy?.stack.cow : undefined;
    if (!cow?.snapshot(name)) return;
    expected.deleting = true;
    this.#world.trace.note('snapshots', `delete ${name} on ${node.name}`);
    void node.scope
      .guard(() => cow.deleteSnapshot(name))
      .catch((error: unknown) => {
        if (['InUse', 'NotReady'].includes(errorCode(error))) expected.deleting = false;
      });
  }

  async #check(expected: Expected): Promise<void> {
    const { node, name } = expected;
    const cow = node.isUp ? node.copy?.stack.cow : undefined;
    if (!cow || expected.deleting) return;
    const info = cow.snapshot(name);
    if (info?.state === 'Pending') return;
    if (!info) {
      if (expected.ready) this.#lost(expected, 'is gone');
      return;
    }
    if (info.state === 'Invalid') return this.#lost(expected, `is lost: ${info.reason}`);
    try {
      const image = await node.scope.guard(() => readSnapshot(cow, name));
      if (!expected.deleting) this.#compare(expected, image);
    } catch (error) {
      if (!expected.deleting && errorCode(error) !== 'Closed')
        this.#lost(expected, `cannot be read: ${errorMessage(error)}`);
    }
  }

  get #mayBeFull(): boolean {
    const { bufferBytes, volumeBytes } = this.#world.config;
    return bufferBytes < (maxSnapshots + 2) * volumeBytes;
  }

  #lost({ node, name }: Expected, what: string): void {
    if (node.bufferTrouble || node.dataTrouble) return;
    if (this.#mayBeFull && what.includes('was full')) return;
    this.#world.violations.report(
      '3',
      `snapshot ${name} of ${node.name} ${what}, and no fault of its disks was injected`,
    );
  }

  #compare(expected: Expected, image: Int32Array): void {
    const { node, name, point } = expected;
    const { violations, trace } = this.#world;
    trace.note('snapshots', `${name} of ${node.name} read`);
    if (expected.image) {
      const sector = image.findIndex((stamp, at) => stamp !== expected.image?.[at]);
      if (sector < 0) return;
      violations.report(
        '3',
        `sector ${sector} of snapshot ${name} of ${node.name} was ${expected.image[sector]} and is ${image[sector]}`,
      );
      return;
    }
    expected.image = image;
    const wrong = differenceFrom(point, image);
    if (wrong) violations.report('4', `snapshot ${name} of ${node.name}: ${wrong}`);
  }
}

/** What keeps an image from being that of the volume after a prefix of its operations, or undefined. */
function differenceFrom(point: BarrierPoint, found: Int32Array): string | undefined {
  const { later, promisedIndex, imageIndex } = point;
  const expected = point.image.map((stamp, sector) =>
    point.uncertain.has(sector) ? (found[sector] as number) : stamp,
  );
  let different = 0;
  for (let sector = 0; sector < expected.length; sector += 1) if (expected[sector] !== found[sector]) different += 1;
  let nearest = '';
  for (let applied = 0; ; applied += 1) {
    const index = applied === 0 ? 0 : (later[applied - 1]?.index ?? 0);
    if (index >= promisedIndex || promisedIndex < (later[0]?.index ?? Number.POSITIVE_INFINITY)) {
      if (different === 0) return undefined;
      const sector = expected.findIndex((stamp, at) => stamp !== found[at]);
      nearest = `after operation ${index} sector ${sector} is ${expected[sector]}, the snapshot has ${found[sector]}`;
    }
    const change = later[applied];
    if (!change) return `the image of no moment: ${nearest}`;
    for (const sector of sectorsOf(change)) {
      if (change.index <= (imageIndex[sector] as number)) continue;
      if (expected[sector] !== found[sector]) different -= 1;
      // What failed may have happened in part.
      expected[sector] = change.state === 'failed' ? (found[sector] as number) : change.stamp;
      if (expected[sector] !== found[sector]) different += 1;
    }
  }
}

export async function readSnapshot(cow: CowDevice, name: string): Promise<Int32Array> {
  const device = cow.openSnapshot(name);
  try {
    const content = Buffer.alloc(device.size);
    const pieceBytes = 256 * 1024;
    for (let offset = 0; offset < device.size; offset += pieceBytes) {
      await device.read(offset, content.subarray(offset, Math.min(offset + pieceBytes, device.size)));
    }
    return readStamps(content, 0);
  } finally {
    await device.close();
  }
}
