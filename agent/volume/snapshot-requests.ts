import { type Clock, delay } from '../../common/clock.ts';
import { UnderstudyError } from '../../common/errors.ts';
import type { SnapshotRequest } from '../api/contract/snapshots.ts';
import type { SnapshotView } from '../api/contract/volumes.ts';
import type { BarrierRecord } from '../mirror/messages.ts';
import type { VolumeHost } from './volume-host.ts';

/** A volume's filesystem held still around a barrier. */
export interface Quiesced {
  readonly consistency: 'crash' | 'filesystem';
  thaw(): Promise<void>;
}

/** Freezes what is mounted on a volume; does not fail, but says what was reached. */
export interface Quiescer {
  freeze(volume: string, options: { timeoutMs: number }): Promise<Quiesced>;
}

/** How long a request waits for its snapshot before it is answered with "waiting". */
const answerWithinMs = 5_000;
/** Outcomes of snapshots that other nodes hold, kept so that a repeated request gets the same answer. */
const maxRemembered = 256;

interface Pending {
  readonly taken: Promise<SnapshotView>;
}

/** The snapshots that have been asked for and are not Ready yet: waiting for a lull, freezing, or at the barrier. */
export class SnapshotRequests {
  readonly #clock: Clock;
  /** Without one, nothing can be frozen. */
  quiescer: Quiescer | undefined;
  readonly #pending = new Map<string, Pending>();
  /** Snapshots that a mirror's standby holds, as they were taken. */
  readonly #elsewhere = new Map<string, SnapshotView>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Starts a request, or joins the one of that name that is under way. */
  async put(volume: string, snapshot: string, request: SnapshotRequest, host: VolumeHost): Promise<SnapshotView> {
    const key = `${volume}@${snapshot}`;
    const known = this.#elsewhere.get(key);
    if (known) return known;
    let pending = this.#pending.get(key);
    if (!pending) {
      pending = { taken: this.#take(volume, snapshot, request, host) };
      this.#pending.set(key, pending);
      const done = () => this.#pending.delete(key);
      pending.taken.then((view) => {
        done();
        if (request.mirror !== undefined) this.#remember(key, view);
      }, done);
    }
    const patience = new AbortController();
    const waiting = delay(this.#clock, answerWithinMs, patience.signal).then(
      () => waitingView(snapshot),
      () => waitingView(snapshot),
    );
    try {
      return await Promise.race([pending.taken, waiting]);
    } finally {
      patience.abort();
    }
  }

  /** A request that is under way, or the outcome of one whose snapshot another node holds. */
  get(volume: string, snapshot: string): SnapshotView | undefined {
    const key = `${volume}@${snapshot}`;
    return this.#pending.has(key) ? waitingView(snapshot) : this.#elsewhere.get(key);
  }

  forget(volume: string, snapshot: string): void {
    this.#elsewhere.delete(`${volume}@${snapshot}`);
  }

  #remember(key: string, view: SnapshotView): void {
    this.#elsewhere.set(key, view);
    const oldest = this.#elsewhere.keys().next();
    if (this.#elsewhere.size > maxRemembered && !oldest.done) this.#elsewhere.delete(oldest.value);
  }

  async #take(volume: string, snapshot: string, request: SnapshotRequest, host: VolumeHost): Promise<SnapshotView> {
    if (request.lull) await waitForLull(volume, snapshot, request.lull, host);
    // The filesystem thaws by itself when time is up; a barrier after that finds it moving again.
    const frozenUntilMs = this.#clock.wallTimeMs() + (request.freeze?.timeoutMs ?? 0);
    const quiesced = request.freeze ? await this.quiescer?.freeze(volume, request.freeze) : undefined;
    const frozen = quiesced?.consistency === 'filesystem' ? frozenUntilMs : undefined;
    let attempt: string;
    try {
      // The barrier has its place in the stream of writes then. How long it is on its way concerns nobody here.
      attempt = await host.call('beginSnapshot', snapshot, request.mirror, frozen, request.hooks);
    } finally {
      await quiesced?.thaw();
    }
    const record = await host.call('finishSnapshot', attempt);
    const held = request.mirror === undefined ? await host.call('snapshot', snapshot) : undefined;
    return held ?? readyView(snapshot, record);
  }
}

async function waitForLull(
  volume: string,
  snapshot: string,
  lull: NonNullable<SnapshotRequest['lull']>,
  host: VolumeHost,
): Promise<void> {
  const { found, waitedMs } = await host.call('waitForLull', lull);
  if (found || lull.onTimeout === 'take') return;
  throw new UnderstudyError(
    'Timeout',
    `snapshot ${snapshot} of volume ${volume}: no lull of ${lull.quietForMs} ms within ${Math.round(waitedMs)} ms; allow more time, a shorter lull or a higher threshold`,
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
