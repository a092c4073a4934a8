import { type Clock, delay } from '../../common/clock.ts';
import { UnderstudyError } from '../../common/errors.ts';
import type { SnapshotRequest } from '../api/contract/snapshots.ts';
import type { SnapshotView } from '../api/contract/volumes.ts';
import type { BarrierRecord } from '../mirror/messages.ts';
import type { VolumeHost } from './volume-host.ts';
import type { LullFound } from './write-activity.ts';

/** A volume's filesystem held still around a barrier. */
export interface Quiesced {
  readonly consistency: 'crash' | 'filesystem';
  thaw(): Promise<void>;
}

/** Freezes what is mounted on a volume; does not fail, but says what was reached. */
export interface Quiescer {
  freeze(volume: string, options: { timeoutMs: number }): Promise<Quiesced>;
}

/** What asks a volume's thread. */
type EngineCaller = Pick<VolumeHost, 'call'>;

/** How long a request waits for its snapshot before it is answered with "waiting". */
const answerWithinMs = 5_000;
/** Outcomes kept so that a repeated request gets the same answer. */
const maxRemembered = 256;

interface Pending {
  /** Its barrier has its place in the stream of writes. */
  readonly begun: Promise<unknown>;
  readonly taken: Promise<SnapshotView>;
  /** It has failed; kept for the next who asks, if nobody was waiting for it. */
  failed: boolean;
}

interface SentBarrier {
  readonly attempt: string;
  readonly lull?: LullFound | undefined;
  readonly frozenMs?: number | undefined;
}

/** The snapshots that have been asked for and are not Ready yet: waiting for a lull, freezing, or at the barrier. */
export class SnapshotRequests {
  readonly #clock: Clock;
  /** Without one, nothing can be frozen. */
  quiescer: Quiescer | undefined;
  readonly #pending = new Map<string, Pending>();
  /** Snapshots as they were taken. */
  readonly #outcomes = new Map<string, SnapshotView>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Starts a request, or joins the one of that name that is under way. */
  async put(volume: string, snapshot: string, request: SnapshotRequest, host: EngineCaller): Promise<SnapshotView> {
    const key = `${volume}@${snapshot}`;
    // One that this copy holds is known to the copy itself.
    const known = request.mirror === undefined ? undefined : this.#outcomes.get(key);
    if (known) return known;
    const joined = this.#pending.get(key);
    const pending = joined ?? this.#start(key, volume, snapshot, request, host);
    const patience = new AbortController();
    const waiting = () => waitingView(snapshot);
    // Acknowledgements are held for a group until this is answered: that the barrier is sent is all it has to know.
    const enough =
      !joined && request.group !== undefined
        ? pending.begun.then(waiting, () => pending.taken)
        : delay(this.#clock, answerWithinMs, patience.signal).then(waiting, waiting);
    try {
      return await Promise.race([pending.taken, enough]);
    } finally {
      patience.abort();
      if (pending.failed && this.#pending.get(key) === pending) this.#pending.delete(key);
    }
  }

  #start(key: string, volume: string, snapshot: string, request: SnapshotRequest, host: EngineCaller): Pending {
    const begun = this.#begin(volume, snapshot, request, host);
    const taken = begun.then((barrier) => finish(snapshot, request, barrier, host));
    const pending: Pending = { begun, taken, failed: false };
    this.#pending.set(key, pending);
    taken.then(
      (view) => {
        this.#pending.delete(key);
        this.#remember(key, view);
      },
      () => {
        pending.failed = true;
      },
    );
    return pending;
  }

  /** A request that is under way, or the outcome of one whose snapshot another node holds. */
  get(volume: string, snapshot: string): SnapshotView | undefined {
    const key = `${volume}@${snapshot}`;
    return this.#pending.get(key)?.failed === false ? waitingView(snapshot) : this.#outcomes.get(key);
  }

  /** A snapshot of this copy, with what is remembered of its request. */
  withMeasurements(volume: string, view: SnapshotView): SnapshotView {
    const outcome = this.#outcomes.get(`${volume}@${view.name}`);
    return outcome?.takenAt !== view.takenAt || outcome === undefined ? view : { ...view, ...measurementsOf(outcome) };
  }

  forget(volume: string, snapshot: string): void {
    const key = `${volume}@${snapshot}`;
    this.#outcomes.delete(key);
    if (this.#pending.get(key)?.failed) this.#pending.delete(key);
  }

  #remember(key: string, view: SnapshotView): void {
    this.#outcomes.set(key, view);
    const oldest = this.#outcomes.keys().next();
    if (this.#outcomes.size > maxRemembered && !oldest.done) this.#outcomes.delete(oldest.value);
  }

  /** Waits for a lull if that was asked for, and sends the barrier. */
  async #begin(volume: string, snapshot: string, request: SnapshotRequest, host: EngineCaller): Promise<SentBarrier> {
    const lull = request.lull && (await waitForLull(volume, snapshot, request.lull, host));
    return { lull, ...(await this.#sendBarrier(volume, snapshot, request, host)) };
  }

  /** Sends the barrier, while the filesystem is frozen if that was asked for. */
  async #sendBarrier(
    volume: string,
    snapshot: string,
    { freeze, mirror, hooks, group }: SnapshotRequest,
    host: EngineCaller,
  ): Promise<{ attempt: string; frozenMs?: number }> {
    // The filesystem thaws by itself when time is up; a barrier after that finds it moving again.
    const frozenUntilMs = this.#clock.wallTimeMs() + (freeze?.timeoutMs ?? 0);
    const quiesced = freeze && (await this.quiescer?.freeze(volume, freeze));
    const isFrozen = quiesced?.consistency === 'filesystem';
    const sinceMs = this.#clock.monotonicMs();
    let attempt: string;
    try {
      // The barrier has its place in the stream of writes then. How long it is on its way concerns nobody here.
      attempt = await host.call('beginSnapshot', snapshot, mirror, isFrozen ? frozenUntilMs : undefined, {
        hooks,
        group,
      });
    } finally {
      await quiesced?.thaw();
    }
    if (freeze === undefined || !isFrozen) return { attempt };
    return { attempt, frozenMs: Math.min(this.#clock.monotonicMs() - sinceMs, freeze.timeoutMs) };
  }
}

/** Waits until the snapshot of a barrier is Ready. */
async function finish(
  snapshot: string,
  { mirror }: SnapshotRequest,
  { attempt, lull, frozenMs }: SentBarrier,
  host: EngineCaller,
): Promise<SnapshotView> {
  const record = await host.call('finishSnapshot', attempt);
  const held = mirror === undefined ? await host.call('snapshot', snapshot) : undefined;
  // What an earlier barrier made has nothing to do with what was waited for now.
  const isOwn = record.attempt === attempt;
  return { ...(held ?? readyView(snapshot, record)), ...(isOwn ? measurementsOf({ lull, frozenMs }) : {}) };
}

function measurementsOf({
  lull,
  frozenMs,
}: {
  lull?: SnapshotView['lull'];
  frozenMs?: number | undefined;
}): Pick<SnapshotView, 'lull' | 'frozenMs'> {
  return { ...(lull === undefined ? {} : { lull }), ...(frozenMs === undefined ? {} : { frozenMs }) };
}

async function waitForLull(
  volume: string,
  snapshot: string,
  lull: NonNullable<SnapshotRequest['lull']>,
  host: EngineCaller,
): Promise<LullFound> {
  const seen = await host.call('waitForLull', lull);
  const { found, waitedMs, bytesPerSecond } = seen;
  if (found || lull.onTimeout === 'take') return seen;
  throw new UnderstudyError(
    'Timeout',
    `snapshot ${snapshot} of volume ${volume}: no lull of ${lull.quietForMs} ms within ${Math.round(waitedMs)} ms (${Math.round(bytesPerSecond)} bytes a second at the end); allow more time, a shorter lull or a higher threshold`,
  );
}

function waitingView(name: string): SnapshotView {
  return { name, state: 'Waiting', valid: false, bufferBytes: 0, exclusiveBytes: 0, readers: 0 };
}

function readyView(name: string, { takenAt, consistency, hooks, size }: BarrierRecord): SnapshotView {
  return {
    name,
    state: 'Ready',
    valid: true,
    takenAt,
    consistency,
    ...(hooks === undefined ? {} : { hooks }),
    size,
    bufferBytes: 0,
    exclusiveBytes: 0,
    readers: 0,
  };
}
