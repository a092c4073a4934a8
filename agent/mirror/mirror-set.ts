import type { Clock } from '../../common/clock.ts';
import { UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { MirrorSpec, MirrorView } from '../api/contract/volumes.ts';
import type { BlockDevice } from '../core/block-device.ts';
import type { Range } from '../core/range.ts';
import type { Arbiter } from './arbiter.ts';
import { AsyncMirror } from './async-mirror.ts';
import type { IntentBitmap } from './intent-bitmap.ts';
import type { Announcement, Mirror } from './mirror.ts';
import { MirrorLink } from './mirror-link.ts';
import {
  type Connector,
  defaultQueueBytes,
  type MirrorRecord,
  type MirrorTiming,
  type OpenedJournal,
  type VolumeIdentity,
} from './mirror-link-options.ts';
import { RateLimit } from './rate-limit.ts';
import type { RestoreMarker } from './restore-marker.ts';

export interface MirrorSetOptions {
  readonly base: BlockDevice;
  readonly intent: IntentBitmap;
  readonly identity: VolumeIdentity;
  readonly arbiter: Arbiter;
  readonly connect: Connector;
  readonly clock: Clock;
  readonly timing: MirrorTiming;
  readonly log: Log;
  readonly newBaseId: () => string;
  /** The limit on the resyncs of each mirror, unless the mirror has one of its own. */
  readonly resyncBytesPerSecond?: number | undefined;
  /** Writes the records of all mirrors down; durable when it resolves. */
  readonly persist: (records: readonly MirrorRecord[]) => Promise<void>;
  /** Opens the journal of an asynchronous mirror, or makes it; without one it lives in memory. */
  readonly openJournal?: (spec: MirrorSpec) => Promise<OpenedJournal | undefined>;
  /** What standbys are told of a restore of the volume. */
  readonly restore?: () => RestoreMarker | undefined;
  /** Bytes of an asynchronous mirror's stream in memory. */
  readonly queueBytes?: number;
  /** Of a standby (a cascade): whether it is the image of one moment now. A primary always is. */
  readonly standby?: { readonly orderly: boolean };
}

/** What the mirrors of a copy need of the device that feeds them. */
export interface MirrorSource {
  /** Whether the local device has not finished a write into the range. */
  localWritePending(range: Range): boolean;
  /** A newer epoch exists. */
  fence(message: string): void;
  /** A standby came, went, or is no longer needed. */
  changed(): void;
}

/**
 * The mirrors of one copy: which there are, what becomes of each when they are asked for otherwise, and what of them is
 * written down.
 *
 * Invariants
 * - A mirror that stays as it is keeps its link, in any change of the others.
 * - A standby that writes waited for stays needed until a new link, or the arbiter, says otherwise.
 */
export class MirrorSet {
  /** In the order in which they were added; read for every write. */
  list: readonly Mirror[] = [];
  readonly #options: MirrorSetOptions;
  readonly #source: MirrorSource;
  readonly #mirrors = new Map<string, Mirror>();
  #identity: VolumeIdentity;

  constructor(options: MirrorSetOptions, source: MirrorSource) {
    this.#options = options;
    this.#source = source;
    this.#identity = options.identity;
  }

  get views(): MirrorView[] {
    return this.list.map((mirror) => mirror.view());
  }

  /** Writes wait for one of them. */
  get suspends(): boolean {
    return this.list.some((mirror) => mirror.suspends);
  }

  /** @throws UnderstudyError NotFound */
  get(name: string): Mirror {
    const mirror = this.#mirrors.get(name);
    if (mirror) return mirror;
    throw new UnderstudyError('NotFound', `volume ${this.#identity.volume} has no mirror ${name}`);
  }

  /** Those whose copies can be compared: of an asynchronous mirror they differ by what is on its way. @throws NotFound */
  synchronous(name: string | undefined): readonly MirrorLink[] {
    const mirrors = name === undefined ? this.list : [this.get(name)];
    return mirrors.filter((each) => each instanceof MirrorLink);
  }

  /** The first ones, which are not started yet. */
  fill(
    specs: readonly MirrorSpec[],
    records: readonly MirrorRecord[],
    journals: ReadonlyMap<string, OpenedJournal>,
  ): void {
    for (const spec of specs) {
      const record = records.find(({ name }) => name === spec.name);
      this.#add(spec, record, journals.get(spec.name));
    }
  }

  /** See MirrorDevice.setMirrors. */
  async change(specs: readonly MirrorSpec[], epoch: number | undefined, relink: boolean): Promise<void> {
    this.#identity = { ...this.#identity, epoch: epoch ?? this.#identity.epoch };
    const wanted = new Map(specs.map((spec) => [spec.name, spec]));
    const known = new Map<string, MirrorRecord>();
    for (const mirror of this.list) {
      const spec = wanted.get(mirror.spec.name);
      if (spec?.mode === mirror.spec.mode) {
        await this.#change(mirror, spec, relink);
      } else {
        await this.#drop(mirror);
        known.set(mirror.spec.name, { ...mirror.record, needed: false });
      }
    }
    for (const spec of specs) {
      if (this.#mirrors.has(spec.name)) continue;
      this.#add(spec, known.get(spec.name), await this.#openJournal(spec)).start();
    }
    await this.#persist();
    this.#source.changed();
  }

  /** A standby has learnt of a newer epoch: the copies behind it do as well. */
  adoptEpoch(epoch: number): void {
    if (epoch === this.#identity.epoch) return;
    this.#identity = { ...this.#identity, epoch };
    for (const mirror of this.list) if (mirror instanceof AsyncMirror) mirror.change(mirror.spec, this.#identity);
  }

  announce(what: Announcement): void {
    for (const mirror of this.list) mirror.announce(what);
  }

  /** The mirror stays one, of the same mode. */
  async #change(mirror: Mirror, spec: MirrorSpec, relink: boolean): Promise<void> {
    mirror.limitResync(spec.resyncBytesPerSecond ?? this.#options.resyncBytesPerSecond);
    if (!relink && mirror.epoch === this.#identity.epoch && linkOf(mirror.spec) === linkOf(spec)) return;
    if (mirror instanceof AsyncMirror) {
      const sameJournal = JSON.stringify(mirror.spec.journal) === JSON.stringify(spec.journal);
      if (sameJournal) return mirror.change(spec, this.#identity);
      await mirror.remove();
      const journal = await this.#openJournal(spec);
      return this.#add(spec, mirror.record, journal).start();
    }
    // A link that is made anew has no record of what its standby missed while it was down: the bitmap has it.
    const next = this.#add(spec, mirror.record, undefined);
    if (mirror instanceof MirrorLink && next instanceof MirrorLink) mirror.handOver(next);
    await mirror.stop();
    next.start();
  }

  async #drop(mirror: Mirror): Promise<void> {
    await mirror.release(this.#identity.epoch);
    this.#mirrors.delete(mirror.spec.name);
    this.list = [...this.#mirrors.values()];
    await mirror.remove();
  }

  async #openJournal(spec: MirrorSpec): Promise<OpenedJournal | undefined> {
    return spec.mode === 'asynchronous' ? this.#options.openJournal?.(spec) : undefined;
  }

  #add(spec: MirrorSpec, record: MirrorRecord | undefined, journal: OpenedJournal | undefined): Mirror {
    const { connect, arbiter, clock, timing, log, newBaseId, standby, resyncBytesPerSecond } = this.#options;
    const common = {
      identity: this.#identity,
      spec,
      record: record ?? { name: spec.name, scanned: false, needed: false },
      base: this.#options.base,
      limit: new RateLimit(clock, spec.resyncBytesPerSecond ?? resyncBytesPerSecond),
      connect,
      arbiter,
      clock,
      timing,
      log,
      newBaseId,
      restore: this.#options.restore,
      localWritePending: (range: Range) => this.#source.localWritePending(range),
      persist: () => this.#persist(),
      markSuspect: (ranges: readonly Range[]) => this.#markSuspect(ranges),
      onFenced: (message: string) => this.#source.fence(message),
      onChange: () => this.#source.changed(),
    };
    const mirror =
      spec.mode === 'synchronous'
        ? new MirrorLink({ ...common, suspect: [...this.#options.intent.ranges()] })
        : new AsyncMirror({
            ...common,
            suspects: () => this.#options.intent.ranges(),
            journal,
            queueBytes: this.#options.queueBytes ?? defaultQueueBytes,
            orderly: standby?.orderly ?? true,
            fences: standby === undefined,
          });
    this.#mirrors.set(spec.name, mirror);
    this.list = [...this.#mirrors.values()];
    return mirror;
  }

  #persist(): Promise<void> {
    return this.#options.persist(this.list.map((mirror) => ({ ...mirror.record })));
  }

  async #markSuspect(ranges: readonly Range[]): Promise<void> {
    const { intent } = this.#options;
    await Promise.all(ranges.map(({ offset, length }) => intent.prepare(offset, length)));
    for (const { offset, length } of ranges) intent.touch(offset, length);
  }
}

/** What a link depends on. */
function linkOf({ resyncBytesPerSecond: _, ...spec }: MirrorSpec): string {
  return JSON.stringify(spec);
}
