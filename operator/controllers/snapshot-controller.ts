import type { Outcome } from '../planning/actions.ts';
import { planSnapshot, type SnapshotPlan } from '../planning/plan-snapshot.ts';
import type { SnapshotWorld } from '../planning/snapshot-world.ts';
import { kubeTime } from '../resources/conditions.ts';
import { keyOf, parseKeyText } from '../resources/kube-object.ts';
import type { PrimaryVolume } from '../resources/primary-volume.ts';
import { type Snapshot, type SnapshotSpec, type SnapshotStatus, snapshots } from '../resources/snapshot.ts';
import type { StandbyMirror } from '../resources/standby-mirror.ts';
import { anyFailed, notDoneYet, recordOutcome } from './agent-actions.ts';
import { BindingFacts } from './binding-facts.ts';
import type { ControllerContext } from './controller-context.ts';
import { ObjectWriter } from './object-writer.ts';
import { volumeNameOf } from './volume-controller.ts';
import type { Result } from './work-queue.ts';

/** More rounds than any course of things takes: finalizer, place, request, status. */
const maxRounds = 8;

/** Takes, looks after and removes snapshots. One key is one Snapshot. */
export class SnapshotController {
  readonly #context: ControllerContext;
  readonly #bindings: BindingFacts;
  readonly #writer: ObjectWriter<SnapshotSpec, SnapshotStatus>;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#bindings = new BindingFacts(context);
    this.#writer = new ObjectWriter(context.api, snapshots, context.caches.snapshots, context.events);
  }

  async reconcile(key: string): Promise<Result> {
    const outcomes = new Map<string, Outcome>();
    for (let round = 0; round < maxRounds; round += 1) {
      const snapshot = this.#context.caches.snapshots.get(parseKeyText(key));
      if (snapshot === undefined) return { type: 'done' };
      const plan = planSnapshot(await this.#observe(snapshot, outcomes));
      if (await this.#writer.hold(snapshot, plan)) continue;
      const actions = notDoneYet(plan.actions, outcomes);
      for (const action of actions) recordOutcome(outcomes, await this.#context.actions.perform(action));
      if (actions.length > 0 || (await this.#writer.write(snapshot, plan))) continue;
      if (plan.expired) await this.#expire(snapshot);
      return this.#next(plan, anyFailed(outcomes));
    }
    return { type: 'again', afterMs: this.#context.intervals.transitionalMs };
  }

  #next(plan: SnapshotPlan, failed: boolean): Result {
    if (failed) return { type: 'failed' };
    const { intervals, clock } = this.#context;
    const afterMs = plan.settled ? intervals.idleMs : intervals.transitionalMs;
    if (plan.expiresAtMs === undefined) return { type: 'again', afterMs };
    return { type: 'again', afterMs: Math.max(0, Math.min(afterMs, plan.expiresAtMs - clock.wallTimeMs())) };
  }

  async #expire(snapshot: Snapshot): Promise<void> {
    const { api, events } = this.#context;
    events.record(snapshot, { type: 'Normal', reason: 'Expired', message: 'its retention is over; it is deleted' });
    await api.delete(snapshots, keyOf(snapshot), { uid: snapshot.metadata.uid });
  }

  async #observe(snapshot: Snapshot, outcomes: ReadonlyMap<string, Outcome>): Promise<SnapshotWorld> {
    const { clock } = this.#context;
    const { mirror, volume } = this.#source(snapshot);
    const nowMs = clock.wallTimeMs();
    const sources = { now: kubeTime(nowMs), nowMs, snapshot, mirror, volume, outcomes };
    const claim = await this.#bindings.of({ kind: 'Snapshot', object: snapshot });
    return { ...sources, claim, ...(await this.#look(snapshot)) };
  }

  /** What the agents say about the snapshot; before it was taken, about the volume. */
  async #look(snapshot: Snapshot): Promise<Pick<SnapshotWorld, 'holder' | 'held' | 'requested'>> {
    const { node, volume, snapshot: name, takenAt, requestedFrom } = snapshot.status ?? {};
    const nothing = { holder: undefined, held: undefined, requested: undefined };
    if (node === undefined || volume === undefined || name === undefined) return nothing;
    const { actions } = this.#context;
    if (snapshot.metadata.deletionTimestamp !== undefined) {
      if (takenAt !== undefined || requestedFrom === undefined || requestedFrom === node) return nothing;
      return { ...nothing, requested: await actions.observeSnapshot(requestedFrom, volume, name) };
    }
    if (takenAt === undefined) return { ...nothing, holder: await actions.observe(node, volume) };
    return { ...nothing, held: await actions.observeSnapshot(node, volume, name) };
  }

  #source(snapshot: Snapshot): { mirror: StandbyMirror | undefined; volume: PrimaryVolume | undefined } {
    const { caches } = this.#context;
    const { namespace = '' } = snapshot.metadata;
    const source = snapshot.spec?.source;
    if (source?.mirror === undefined) {
      const volume = source?.volume === undefined ? undefined : caches.volumes.get({ namespace, name: source.volume });
      return { mirror: undefined, volume };
    }
    const mirror = caches.mirrors.get({ namespace, name: source.mirror });
    const name = mirror && volumeNameOf(mirror);
    return { mirror, volume: name === undefined ? undefined : caches.volumes.get({ namespace, name }) };
  }
}
