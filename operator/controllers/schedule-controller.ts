import { errorCode } from '../../common/errors.ts';
import { isUser } from '../planning/plan-eviction.ts';
import { isBeingRestored } from '../planning/plan-restore.ts';
import { planSchedule, type SchedulePlan, type ScheduleWorld } from '../planning/plan-schedule.ts';
import { holderOf, type Removal } from '../planning/schedule-keeping.ts';
import { scheduleSource } from '../planning/schedule-source.ts';
import { kubeTime } from '../resources/conditions.ts';
import { pods } from '../resources/core-kinds.ts';
import { scheduleUidLabel } from '../resources/group.ts';
import { keyOf, type NewObject, parseKeyText } from '../resources/kube-object.ts';
import { type Snapshot, snapshots } from '../resources/snapshot.ts';
import {
  type SnapshotSchedule,
  type SnapshotScheduleSpec,
  type SnapshotScheduleStatus,
  snapshotSchedules,
} from '../resources/snapshot-schedule.ts';
import type { ControllerContext } from './controller-context.ts';
import { ObjectWriter } from './object-writer.ts';
import { ScheduleJobs } from './schedule-jobs.ts';
import type { Result } from './work-queue.ts';

/** More rounds than any course of things takes: a snapshot, a status, a name that is taken. */
const maxRounds = 6;

/** Makes Snapshots at their times and removes old ones; the SnapshotController takes them. One key is one SnapshotSchedule. */
export class ScheduleController {
  readonly #context: ControllerContext;
  readonly #writer: ObjectWriter<SnapshotScheduleSpec, SnapshotScheduleStatus>;

  readonly #jobs: ScheduleJobs;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#jobs = new ScheduleJobs(context);
    this.#writer = new ObjectWriter(context.api, snapshotSchedules, context.caches.schedules, context.events);
  }

  async reconcile(key: string): Promise<Result> {
    let nameTaken: string | undefined;
    let jobRefused: ScheduleWorld['jobRefused'];
    for (let round = 0; round < maxRounds; round += 1) {
      const schedule = this.#context.caches.schedules.get(parseKeyText(key));
      if (schedule === undefined || schedule.metadata.deletionTimestamp !== undefined) return { type: 'done' };
      const plan = planSchedule({ ...(await this.#worldOf(schedule)), nameTaken, jobRefused });
      // First the snapshot or Job, then the status that says so: what is tried again finds it, by its name.
      if (plan.make !== undefined && !(await this.#make(schedule, plan.make))) {
        nameTaken = plan.make.metadata.name;
        continue;
      }
      const { start } = plan.jobs;
      if (start !== undefined) {
        jobRefused = await this.#jobs.make(schedule, start);
        if (jobRefused !== undefined) continue;
      }
      if (await this.#writer.write(schedule, plan)) continue;
      for (const removal of plan.jobs.end) await this.#jobs.end(schedule, removal);
      for (const removal of plan.giveUp) await this.#remove(schedule, removal, 'GivenUp');
      for (const removal of plan.prune) await this.#prune(schedule, removal);
      return this.#next(plan);
    }
    return { type: 'again', afterMs: this.#context.intervals.transitionalMs };
  }

  async #worldOf(schedule: SnapshotSchedule): Promise<ScheduleWorld> {
    const { caches, clock } = this.#context;
    const { namespace = '', uid } = schedule.metadata;
    const inNamespace = caches.snapshots.list().filter(({ metadata }) => metadata.namespace === namespace);
    const { mirror, volume } = schedule.spec?.template?.source ?? {};
    const named = (name: string | undefined) => ({ namespace, name: name ?? '' });
    const nowMs = clock.wallTimeMs();
    return {
      now: kubeTime(nowMs),
      nowMs,
      schedule,
      own: inNamespace.filter(({ metadata }) => metadata.labels?.[scheduleUidLabel] === uid),
      source: scheduleSource(
        schedule,
        caches.mirrors.get(named(mirror)),
        caches.volumes.get(named(volume)),
        inNamespace,
      ),
      jobs: await this.#jobs.seen(schedule),
    };
  }

  #next(plan: SchedulePlan): Result {
    const { intervals, clock } = this.#context;
    const atMostMs = plan.soon ? intervals.transitionalMs : intervals.idleMs;
    if (plan.nextMs === undefined) return { type: 'again', afterMs: atMostMs };
    const untilMs = Math.max(0, plan.nextMs - clock.wallTimeMs());
    return { type: 'again', afterMs: Math.min(atMostMs, untilMs), exactly: untilMs <= atMostMs };
  }

  /** @returns false if there is another object of that name, which this schedule has not made. */
  async #make(schedule: SnapshotSchedule, object: NewObject<Snapshot>): Promise<boolean> {
    const { api, caches, events } = this.#context;
    try {
      const made = await api.create(snapshots, object);
      caches.snapshots.put(made);
      const message = `Snapshot ${made.metadata.name} is made for its time`;
      events.record(schedule, { type: 'Normal', reason: 'SnapshotMade', message });
      return true;
    } catch (error) {
      if (errorCode(error) !== 'AlreadyExists') throw error;
      const found = await api.get(snapshots, keyOf({ metadata: object.metadata }));
      if (found === undefined) throw error;
      if (found.metadata.labels?.[scheduleUidLabel] !== schedule.metadata.uid) return false;
      caches.snapshots.put(found);
      return true;
    }
  }

  /** Not while it is in use at this moment, whatever was last heard of it. */
  async #prune(schedule: SnapshotSchedule, removal: Removal): Promise<void> {
    const { snapshot } = removal;
    const restored = isBeingRestored(snapshot, this.#context.caches.restores.list())
      ? 'it is being restored'
      : undefined;
    const holder = restored ?? holderOf(snapshot) ?? (await this.#readerOf(snapshot)) ?? (await this.#podOf(snapshot));
    if (holder !== undefined) {
      this.#context.log.debug({ snapshot: snapshot.metadata.name, holder }, 'an old snapshot stays: it is in use');
      return;
    }
    await this.#remove(schedule, removal, 'Pruned');
  }

  async #readerOf({ status }: Snapshot): Promise<string | undefined> {
    const { node, volume, snapshot } = status ?? {};
    if (node === undefined || volume === undefined || snapshot === undefined) return undefined;
    const held = await this.#context.actions.observeSnapshot(node, volume, snapshot);
    switch (held.kind) {
      case 'absent':
        return undefined;
      case 'present':
        return held.view.readers > 0 ? `it is being read by ${held.view.readers}` : undefined;
      default:
        return `node ${node} cannot be asked whether it is being read`;
    }
  }

  async #podOf({ metadata, status }: Snapshot): Promise<string | undefined> {
    const { namespace = '' } = metadata;
    const claim = status?.claimName;
    if (claim === undefined) return undefined;
    const { items } = await this.#context.api.list(pods, { namespace });
    const pod = items.find((candidate) => isUser(candidate, claim));
    return pod && `pod ${pod.metadata.name} uses its claim`;
  }

  /** If it still is as it was when that was decided; else everything is planned again. */
  async #remove(schedule: SnapshotSchedule, { snapshot, why }: Removal, reason: string): Promise<void> {
    const { api, events } = this.#context;
    const { name, uid, resourceVersion } = snapshot.metadata;
    await api.delete(snapshots, keyOf(snapshot), { uid, resourceVersion });
    const message = `Snapshot ${name} is removed: ${why}`;
    events.record(schedule, { type: reason === 'Pruned' ? 'Normal' : 'Warning', reason, message });
  }
}
