import { type Change, sectorsOf } from './ledger.ts';

interface Version {
  readonly index: number;
  readonly stamp: number;
  /** When it was acknowledged, in events of this order; infinite as long as it is not. */
  acknowledged: number;
}

/**
 * What one primary was asked to do, in the order in which it was asked, and when it had answered: enough to tell whether an
 * image is one that its disk could have had at some moment, had the power gone then.
 *
 * That is an image in which, for some flush that was answered: everything that had been acknowledged before that flush was
 * asked for is there, or something later in the same place; and nothing is there that was asked for after the next flush
 * had been answered. In between, writes may be there or not, each sector by itself.
 */
export class WriteOrder {
  readonly #image: Int32Array;
  readonly #versions = new Map<number, Version[]>();
  readonly #lists = new WeakMap<Change, Version[]>();
  /** Answered flushes: `asked` in events (the newest one so far), and how many changes had been asked for at the answer. */
  readonly #flushes: { readonly asked: number; readonly changes: number }[] = [];
  #event = 0;
  #changes = 0;

  constructor(image: Int32Array) {
    this.#image = Int32Array.from(image);
  }

  issue(change: Change): void {
    this.#event += 1;
    this.#changes += 1;
    const version: Version = { index: this.#changes, stamp: change.stamp, acknowledged: Number.POSITIVE_INFINITY };
    this.#lists.set(change, [version]);
    for (const sector of sectorsOf(change)) {
      const versions = this.#versions.get(sector) ?? [
        { index: 0, stamp: this.#image[sector] as number, acknowledged: 0 },
      ];
      versions.push(version);
      this.#versions.set(sector, versions);
    }
  }

  acknowledge(change: Change): void {
    this.#event += 1;
    for (const version of this.#lists.get(change) ?? []) version.acknowledged = this.#event;
  }

  /** Call when a flush is asked for; call the result when it has been answered. */
  flush(): () => void {
    this.#event += 1;
    const asked = this.#event;
    return () => {
      const newest = Math.max(asked, this.#flushes.at(-1)?.asked ?? 0);
      this.#flushes.push({ asked: newest, changes: this.#changes });
    };
  }

  /** Why the disk can never have had this image, or undefined if it can. */
  contradiction(image: Int32Array): string | undefined {
    const moments = this.#flushes.length + 1;
    // How many sectors fit in at each moment, as differences from one moment to the next.
    const steps = new Int32Array(moments + 1);
    let sectors = 0;
    let example = '';
    for (let sector = 0; sector < image.length; sector += 1) {
      const stamp = image[sector] as number;
      const versions = this.#versions.get(sector);
      if (!versions) {
        if (stamp !== this.#image[sector]) return `sector ${sector} holds ${stamp}, which was never written there`;
        continue;
      }
      sectors += 1;
      const spans = this.#spans(versions, stamp);
      if (spans.length === 0) example = `sector ${sector} holds ${stamp}`;
      for (const { from, to } of spans) {
        steps[from] = (steps[from] as number) + 1;
        steps[to + 1] = (steps[to + 1] as number) - 1;
      }
    }
    let fitting = 0;
    let best = 0;
    for (let moment = 0; moment < moments; moment += 1) {
      fitting += steps[moment] as number;
      best = Math.max(best, fitting);
      if (fitting === sectors) return undefined;
    }
    return `of ${sectors} sectors that were written at most ${best} fit together at one of ${moments} moments ${example}`;
  }

  /** The moments at which a sector may hold the stamp, as disjoint spans. A moment is the time behind so many flushes. */
  #spans(versions: readonly Version[], stamp: number): { from: number; to: number }[] {
    const spans: { from: number; to: number }[] = [];
    versions.forEach((version, at) => {
      if (version.stamp !== stamp) return;
      // It can be there once it has been asked for: in a moment that ends with an answer after that.
      const from = firstWhere(this.#flushes, ({ changes }) => changes >= version.index);
      // It cannot be there any more behind a flush that was asked for when a later one had been acknowledged.
      const replaced = Math.min(...versions.slice(at + 1).map(({ acknowledged }) => acknowledged));
      const to = firstWhere(this.#flushes, ({ asked }) => asked > replaced);
      const last = spans.at(-1);
      if (from > to) return;
      if (last && from <= last.to) last.to = Math.max(last.to, to);
      else spans.push({ from, to });
    });
    return spans;
  }
}

/** The index of the first element for which the condition holds, which then holds for all behind it; the length if none. */
function firstWhere<T>(list: readonly T[], holds: (element: T) => boolean): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(list[middle] as T)) high = middle;
    else low = middle + 1;
  }
  return low;
}
