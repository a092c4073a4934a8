import { randomUUID } from 'node:crypto';
import { validate } from '../../common/validation.ts';
import type { Outcome } from '../planning/actions.ts';
import { isOfAttempt } from '../planning/group-members.ts';
import { openAttempt } from '../planning/plan-hooks.ts';
import { planSnapshot, type SnapshotPlan } from '../planning/plan-snapshot.ts';
import type { GroupFact, SnapshotWorld } from '../planning/snapshot-world.ts';
import { kubeTime } from '../resources/conditions.ts';
import { keyOf, parseKeyText } from '../resources/kube-object.ts';
import type { PrimaryVolume } from '../resources/primary-volume.ts';
import { type Snapshot, type SnapshotSpec, type SnapshotStatus, snapshots } from '../resources/snapshot.ts';
import { snapshotGroups } from '../resources/snapshot-group.ts';
import type { SnapshotHooks } from '../resources/snapshot-hooks.ts';
import type { StandbyMirror } from '../resources/standby-mirror.ts';
import { anyFailed, notDoneYet, recordOutcome } from './agent-actions.ts';
import { BindingFacts } from './binding-facts.ts';
import type { ControllerContext } from './controller-context.ts';
import { HookSessions } from './hook-sessions.ts';
import { ObjectWriter } from './object-writer.ts';
import { volumeNameOf } from './volume-controller.ts';
import type { Result } from './work-queue.ts';

/** More rounds than any course of things takes: finalizer, place, hooks (written, entered, left), request, status. */
const maxRounds = 12;
/** While applications are held, the agent that waits for its barrier is asked again at once. */
const heldPauseMs = 50;
/** The same, if it does not answer. */
const heldRetryMs = 500;

/** Takes, looks after and removes snapshots. One key is one Snapshot. */
export class SnapshotController {
  readonly #context: ControllerContext;
  readonly #bindings: BindingFacts;
  readonly #writer: ObjectWriter<SnapshotSpec, SnapshotStatus>;
  readonly #hooks: HookSessions;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#bindings = new BindingFacts(context);
    this.#writer = new ObjectWriter(context.api, snapshots, context.caches.snapshots, context.events);
    this.#hooks = new HookSessions({ ...context, newName: randomUUID });
  }

  /** Leaves what holds applications; the next operator runs their post hooks. */
  stop(): void {
    this.#hooks.stop();
  }

  async reconcile(key: string): Promise<Result> {
    const outcomes = new Map<string, Outcome>();
    for (let round = 0; round < maxRounds; round += 1) {
      const snapshot = this.#context.caches.snapshots.get(parseKeyText(key));
      if (snapshot === undefined) return { type: 'done' };
      const hooks = hooksToRun(snapshot);
      const plan = planSnapshot(await this.#observe(snapshot, hooks, outcomes));
      if (await this.#writer.hold(snapshot, plan)) continue;
      if (plan.hookAction !== undefined && hooks !== undefined) {
        await this.#hooks.perform(snapshot, hooks, plan.hookAction);
        continue;
      }
      const actions = notDoneYet(plan.actions, outcomes);
      for (const action of actions) recordOutcome(outcomes, await this.#context.actions.perform(action));
      if (actions.length > 0 || (await this.#writer.write(snapshot, plan))) continue;
      if (plan.expired) await this.#expire(snapshot);
      if (openAttempt(snapshot.status) !== undefined)
        return { type: 'again', afterMs: anyFailed(outcomes) ? heldRetryMs : heldPauseMs };
      this.#hooks.forgetOver(snapshot);
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

  async #observe(
    snapshot: Snapshot,
    hooks: SnapshotHooks | undefined,
    outcomes: ReadonlyMap<string, Outcome>,
  ): Promise<SnapshotWorld> {
    const { clock } = this.#context;
    const { mirror, volume } = this.#source(snapshot);
    const nowMs = clock.wallTimeMs();
    const group = this.#groupOf(snapshot);
    const sources = { now: kubeTime(nowMs), nowMs, snapshot, mirror, volume, outcomes, group };
    const claim = await this.#bindings.of({ kind: 'Snapshot', object: snapshot });
    const hookFacts = hooks && (await this.#hooks.facts(snapshot, hooks));
    return { ...sources, claim, hooks: hookFacts, ...(await this.#look(snapshot)) };
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
    const holder = takenAt === undefined ? await actions.observe(node, volume) : undefined;
    // After an attempt with hooks, or of a group, it may be there although nobody knows.
    const isAttempted = snapshot.status?.hooks !== undefined || this.#groupOf(snapshot)?.attempt !== undefined;
    if (takenAt === undefined && !isAttempted) return { ...nothing, holder };
    return { ...nothing, holder, held: await actions.observeSnapshot(node, volume, name) };
  }

  /** A group that is gone has no attempt. */
  #groupOf({ metadata }: Snapshot): GroupFact | undefined {
    const owner = metadata.ownerReferences?.find(({ kind }) => kind === snapshotGroups.kind);
    if (owner === undefined) return undefined;
    const group = this.#context.caches.groups.get({ namespace: metadata.namespace ?? '', name: owner.name });
    const isOwn = group?.metadata.uid === owner.uid && isOfAttempt({ metadata }, group.status?.attempts);
    const { attempt, endedAt, problem } = (isOwn && group.status) || {};
    const isSent = endedAt !== undefined && problem === undefined;
    return { name: owner.name, ...(isSent ? { attempt } : {}) };
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

/** The hooks of a snapshot that is not there yet, or whose post hooks are still to be run, as they were when it was accepted. */
function hooksToRun({ metadata, spec, status }: Snapshot): SnapshotHooks | undefined {
  const isWaitedFor = status?.takenAt === undefined && metadata.deletionTimestamp === undefined;
  if (!isWaitedFor && openAttempt(status) === undefined) return undefined;
  const accepted = validate(snapshots.spec, { ...spec, ...status?.accepted });
  return accepted.ok ? accepted.value.consistency.hooks : undefined;
}
