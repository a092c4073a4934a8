import { sectorBytes } from './stamps.ts';

/** A life of a primary: one process on one node in one epoch. */
export interface Incarnation {
  readonly node: string;
  readonly epoch: number;
  readonly life: number;
}

/** An operation that changes the volume. */
export interface Change {
  readonly stamp: number;
  readonly offset: number;
  readonly length: number;
  readonly incarnation: Incarnation;
  /** Its place in the order of issue within the current history. */
  index: number;
  state: 'pending' | 'acknowledged' | 'failed';
  /** Taken over when the history went on elsewhere: whether it was there. */
  survived: boolean | undefined;
}

interface Version {
  readonly stamp: number;
  readonly index: number;
  readonly change: Change | undefined;
}

/** What a crash may have taken away. */
export type Loss = 'nothing acknowledged' | 'what was not flushed';

/** The volume as it must be after the first operations of a history: for comparison with a snapshot. */
export interface BarrierPoint {
  /** The image before all operations that were under way; with what is on stable storage already of later ones. */
  readonly image: Int32Array;
  /** For each sector of the image the index of its version. */
  readonly imageIndex: Int32Array;
  /** Sectors of which a failed operation came last: they may hold either. */
  readonly uncertain: ReadonlySet<number>;
  /** The operations from the first one that was under way on, in order. */
  readonly later: readonly Change[];
  /** The newest operation that had been acknowledged: it and all before it must be there. */
  readonly promisedIndex: number;
}

/**
 * The truth about a volume, kept outside the system: which versions of each sector may be found, and which were promised.
 *
 * For each sector it holds the versions in the order of their issue, beginning with the newest one that is certainly on
 * stable storage. Operations on one primary take effect in the order of their calls; so a later version that was
 * acknowledged rules out all earlier ones.
 */
export class Ledger {
  readonly sectors: number;
  /** Every change that was ever asked for of the primaries whose word counted. */
  readonly #all: Change[] = [];
  /** What primaries were asked for whose word did not count any more: it may be on their own disks. */
  readonly #strays: Change[] = [];
  /** With what each epoch began. */
  readonly #starts = new Map<number, Int32Array>();
  /** The versions known to be on stable storage. */
  readonly #base: Int32Array;
  /** Their indexes. */
  readonly #baseIndex: Int32Array;
  readonly #versions = new Map<number, Version[]>();
  #underWay: Change[] = [];
  #nextIndex = 1;
  current: Incarnation;

  constructor(volumeBytes: number, first: Incarnation) {
    this.sectors = volumeBytes / sectorBytes;
    this.#base = new Int32Array(this.sectors);
    this.#baseIndex = new Int32Array(this.sectors);
    this.current = first;
    this.#starts.set(first.epoch, new Int32Array(this.sectors));
  }

  issue(change: Change): void {
    change.index = this.#nextIndex;
    this.#nextIndex += 1;
    this.#underWay.push(change);
    this.#all.push(change);
    for (const sector of sectorsOf(change))
      this.#list(sector).push({ stamp: change.stamp, index: change.index, change });
  }

  /** A primary whose word does not count any more is asked for a change. */
  stray(change: Change): void {
    this.#strays.push(change);
  }

  acknowledge(change: Change, durable: boolean): void {
    change.state = 'acknowledged';
    this.#underWay = this.#underWay.filter((other) => other !== change);
    if (!durable) return;
    for (const sector of sectorsOf(change)) this.#settle(sector, change.index);
  }

  /** It may or may not have happened, or happen yet. */
  fail(change: Change): void {
    change.state = 'failed';
    this.#underWay = this.#underWay.filter((other) => other !== change);
  }

  /** Call when a flush begins; call the result when it has succeeded. It answers with the sectors that are settled now. */
  flush(): () => Map<number, number> {
    const floors = new Map<number, number>();
    for (const [sector, versions] of this.#versions) {
      const floor = versions.findLast(isPromised);
      if (floor) floors.set(sector, floor.index);
    }
    return () => {
      for (const [sector, index] of floors) this.#settle(sector, index);
      return floors;
    };
  }

  /** The index of the newest acknowledged version of each sector of a range, for `mayRead`. */
  promised(offset: number, length: number): number[] {
    return sectorsOf({ offset, length }).map((sector) => this.#versions.get(sector)?.findLast(isPromised)?.index ?? 0);
  }

  /** Whether a sector may hold the stamp, given that nothing older than `floor` may be found. */
  mayHold(sector: number, stamp: number, floor: number): boolean {
    const versions = this.#versions.get(sector);
    if (!versions) return this.#base[sector] === stamp;
    return versions.some((version, at) => version.stamp === stamp && isAllowed(versions, at, floor));
  }

  /** Sectors with versions that a crash may take away; those that are settled since. */
  settledStamp(sector: number): number {
    return this.#versions.get(sector)?.[0]?.stamp ?? (this.#base[sector] as number);
  }

  /** The point of the write stream at which a barrier is called now. */
  barrierPoint(): BarrierPoint {
    const image = Int32Array.from(this.#base);
    const imageIndex = Int32Array.from(this.#baseIndex);
    const first = Math.min(...this.#underWay.map(({ index }) => index), this.#nextIndex);
    const uncertain = new Set<number>();
    for (const [sector, versions] of this.#versions) {
      const version = versions.findLast(({ index }) => index < first) ?? (versions[0] as Version);
      image[sector] = version.stamp;
      imageIndex[sector] = version.index;
      if (version.change?.state === 'failed') uncertain.add(sector);
    }
    const later = this.#later(first);
    const promisedIndex = later.findLast(({ state }) => state === 'acknowledged')?.index ?? first - 1;
    return { image, imageIndex, uncertain, later, promisedIndex };
  }

  /**
   * The history goes on from an image found on a disk.
   * @returns the sectors whose content is not allowed, with what would be
   */
  goOn(incarnation: Incarnation, image: Int32Array, loss: Loss, durable: boolean): string[] {
    const wrong: string[] = [];
    this.#nextIndex += 1;
    for (let sector = 0; sector < this.sectors; sector += 1) {
      const stamp = image[sector] as number;
      const versions = this.#versions.get(sector);
      const floor = loss === 'nothing acknowledged' ? (versions?.findLast(isPromised)?.index ?? 0) : 0;
      if (!this.mayHold(sector, stamp, floor)) wrong.push(this.describe(sector, stamp, floor));
      this.#goOnAt(sector, stamp, durable);
    }
    for (const change of this.#underWay) {
      change.survived ??= sectorsOf(change).every((sector) =>
        this.#holdsAtLeast(sector, image[sector] as number, change),
      );
    }
    this.#underWay = [];
    this.#begins(incarnation, image);
    return wrong;
  }

  /**
   * The history goes on from an image that may miss what was acknowledged from an epoch on, and nothing else. It may hold
   * what this node was asked for itself and never acknowledged, in whatever epoch.
   * @returns the sectors whose content is not allowed
   */
  goOnWithLoss(incarnation: Incarnation, image: Int32Array, fromEpoch: number): string[] {
    const from = Math.max(...[...this.#starts.keys()].filter((epoch) => epoch <= fromEpoch));
    const start = this.#starts.get(from) as Int32Array;
    const allowed = new Map<number, Set<number>>();
    const mayBeThere = ({ incarnation: { node, epoch }, state }: Change) =>
      epoch >= from || (node === incarnation.node && state !== 'acknowledged');
    const strays = this.#strays.filter((change) => change.incarnation.node === incarnation.node);
    for (const change of [...this.#all, ...strays].filter(mayBeThere)) {
      for (const sector of sectorsOf(change)) {
        const stamps = allowed.get(sector) ?? new Set([start[sector] as number]);
        allowed.set(sector, stamps.add(change.stamp));
      }
    }
    const wrong: string[] = [];
    image.forEach((stamp, sector) => {
      if (allowed.get(sector)?.has(stamp) ?? start[sector] === stamp) return;
      wrong.push(`sector ${sector} holds ${stamp}, which is older than epoch ${from}, or was never there`);
    });
    this.#nextIndex += 1;
    this.#versions.clear();
    this.#before.clear();
    this.#base.set(image);
    this.#baseIndex.fill(this.#nextIndex - 1);
    for (const change of this.#underWay) change.survived ??= false;
    this.#underWay = [];
    this.#begins(incarnation, image);
    return wrong;
  }

  #begins(incarnation: Incarnation, image: Int32Array): void {
    if (incarnation.epoch > this.current.epoch) this.#starts.set(incarnation.epoch, Int32Array.from(image));
    this.current = incarnation;
  }

  describe(sector: number, stamp: number, floor: number): string {
    const versions = this.#versions.get(sector) ?? [];
    const list = versions.map(
      (version) => `${version.stamp}@${version.index}${version.change ? version.change.state[0] : ''}`,
    );
    return `sector ${sector} holds ${stamp}; expected ${list.join(' ') || this.#base[sector]} from index ${floor}`;
  }

  #holdsAtLeast(sector: number, stamp: number, change: Change): boolean {
    // Versions later than the change in the same sector hide it.
    const before = this.#before.get(sector);
    return before === undefined || before.some((version) => version.stamp === stamp && version.index >= change.index);
  }

  /** The versions as they were before the history went on. */
  readonly #before = new Map<number, Version[]>();

  #goOnAt(sector: number, stamp: number, durable: boolean): void {
    const versions = this.#versions.get(sector);
    this.#before.delete(sector);
    if (versions) this.#before.set(sector, versions);
    if (durable) {
      this.#versions.delete(sector);
      this.#base[sector] = stamp;
      this.#baseIndex[sector] = this.#nextIndex - 1;
    } else if (versions) {
      // What was found is the volume now, but a power cut may still bring an older version back.
      this.#versions.set(sector, [...versions, { stamp, index: this.#nextIndex - 1, change: undefined }]);
    }
  }

  #later(first: number): Change[] {
    const changes = new Map<number, Change>();
    for (const versions of this.#versions.values()) {
      for (const { index, change } of versions) if (index >= first && change) changes.set(index, change);
    }
    return [...changes.values()].sort((a, b) => a.index - b.index);
  }

  #list(sector: number): Version[] {
    let versions = this.#versions.get(sector);
    if (!versions) {
      versions = [{ stamp: this.#base[sector] as number, index: this.#baseIndex[sector] as number, change: undefined }];
      this.#versions.set(sector, versions);
    }
    return versions;
  }

  /** Nothing older than this version can be found any more, whatever crashes. */
  #settle(sector: number, index: number): void {
    const versions = this.#versions.get(sector);
    if (!versions) return;
    const at = versions.findIndex((version) => version.index === index);
    if (at > 0) versions.splice(0, at);
    const [only] = versions;
    if (versions.length > 1 || !only || (only.change && only.change.state !== 'acknowledged')) return;
    this.#base[sector] = only.stamp;
    this.#baseIndex[sector] = only.index;
    this.#versions.delete(sector);
  }
}

export function sectorsOf({ offset, length }: { offset: number; length: number }): number[] {
  const first = offset / sectorBytes;
  return Array.from({ length: length / sectorBytes }, (_, index) => first + index);
}

function isPromised({ change }: Version): boolean {
  return change === undefined || change.state === 'acknowledged';
}

function isAllowed(versions: readonly Version[], at: number, floor: number): boolean {
  return (versions[at] as Version).index >= floor;
}
