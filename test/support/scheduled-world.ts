import { planSchedule, type SchedulePlan, type ScheduleWorld } from '../../operator/planning/plan-schedule.ts';
import type { Removal } from '../../operator/planning/schedule-keeping.ts';
import { scheduleSource } from '../../operator/planning/schedule-source.ts';
import { kubeTime } from '../../operator/resources/conditions.ts';
import type { Job } from '../../operator/resources/job.ts';
import type { NewObject } from '../../operator/resources/kube-object.ts';
import { type Snapshot, snapshotSpecSchema } from '../../operator/resources/snapshot.ts';
import { type SnapshotSchedule, snapshotScheduleSpecSchema } from '../../operator/resources/snapshot-schedule.ts';
import { type StandbyMirror, standbyMirrorSpecSchema } from '../../operator/resources/standby-mirror.ts';

const apiVersion = 'understudy.dev/v1alpha1';

/** One schedule of a mirror, planned for and obeyed without an API, an agent or time of its own. */
export class ScheduledWorld {
  nowMs: number;
  schedule: SnapshotSchedule;
  mirror: StandbyMirror | undefined;
  /** By name. */
  readonly snapshots = new Map<string, Snapshot>();
  /** The name of every Snapshot that was ever made, and what for. */
  readonly made: string[] = [];
  readonly removed: Removal[] = [];
  /** By name. */
  readonly jobs = new Map<string, Job>();
  #uid = 0;

  constructor(options: { readonly startMs: number; readonly spec: object; readonly maxSnapshots?: number }) {
    this.nowMs = options.startMs;
    this.schedule = {
      apiVersion,
      kind: 'SnapshotSchedule',
      metadata: { ...this.#meta('often'), creationTimestamp: kubeTime(options.startMs) },
      spec: snapshotScheduleSpecSchema.parse({ template: { source: { mirror: 'm' } }, ...options.spec }),
    };
    this.mirror = {
      apiVersion,
      kind: 'StandbyMirror',
      metadata: this.#meta('m'),
      spec: standbyMirrorSpecSchema.parse({
        primaryVolumeRef: { name: 'data' },
        nodeName: 'node-b',
        buffer: { pool: 'buffer', capacity: '1Gi', maxSnapshots: options.maxSnapshots ?? 32 },
      }),
    };
  }

  change(spec: object): void {
    const generation = (this.schedule.metadata.generation ?? 0) + 1;
    this.schedule = {
      ...this.schedule,
      metadata: { ...this.schedule.metadata, generation },
      spec: { ...this.schedule.spec, ...spec },
    };
  }

  plan(more: Partial<ScheduleWorld> = {}): SchedulePlan {
    return planSchedule({ ...this.world(), ...more });
  }

  world(): ScheduleWorld {
    const all = [...this.snapshots.values()];
    return {
      now: kubeTime(this.nowMs),
      nowMs: this.nowMs,
      schedule: this.schedule,
      own: all.filter(
        ({ metadata }) => metadata.labels?.['understudy.dev/schedule-uid'] === this.schedule.metadata.uid,
      ),
      source: scheduleSource(this.schedule, this.mirror, undefined, all),
      jobs: { kind: 'seen', jobs: [...this.jobs.values()] },
    };
  }

  /** Plans and does it, as the controller; `until` ends it early, as a crash. */
  reconcile(until: 'made' | 'written' | 'done' = 'done'): void {
    for (let round = 0; round < 6; round += 1) {
      let plan = this.plan();
      const name = plan.make?.metadata.name;
      if (plan.make !== undefined && name !== undefined) {
        const there = this.snapshots.get(name);
        if (there === undefined) this.#make(plan.make as Snapshot);
        else if (there.metadata.labels?.['understudy.dev/schedule-uid'] !== this.schedule.metadata.uid)
          plan = this.plan({ nameTaken: name });
      }
      if (plan.jobs.start !== undefined) this.#makeJob(plan.jobs.start);
      if (until === 'made') return;
      const wasWritten = JSON.stringify(plan.status) !== JSON.stringify(this.schedule.status);
      this.schedule = { ...this.schedule, status: plan.status };
      if (until === 'written') return;
      if (wasWritten) continue;
      for (const removal of [...plan.giveUp, ...plan.prune]) {
        this.removed.push(removal);
        this.snapshots.delete(removal.snapshot.metadata.name);
      }
      for (const { job } of plan.jobs.end) this.jobs.delete(job.metadata.name);
      if (plan.giveUp.length + plan.prune.length + plan.jobs.end.length === 0) return;
    }
    throw new Error('every look finds something to do');
  }

  #make(object: Snapshot): void {
    const { name } = object.metadata;
    this.made.push(name);
    this.snapshots.set(name, { ...object, metadata: { ...object.metadata, ...this.#meta(name) } });
  }

  #makeJob(object: NewObject<Job>): void {
    const { name } = object.metadata;
    if (this.jobs.has(name)) throw new Error(`Job ${name} is made a second time`);
    this.jobs.set(name, { ...object, metadata: { ...object.metadata, ...this.#meta(name) } });
  }

  /** What the Job controller says of a Job when it has ended. */
  endJob(name: string, type: 'Complete' | 'Failed', message = ''): void {
    const job = this.jobs.get(name);
    if (job === undefined) throw new Error(`there is no Job ${name}`);
    this.jobs.set(name, { ...job, status: { conditions: [{ type, status: 'True', message }] } });
  }

  /** Someone else makes a Snapshot of the mirror. */
  foreign(name: string): void {
    const spec = snapshotSpecSchema.parse({ source: { mirror: 'm' } });
    this.snapshots.set(name, { apiVersion, kind: 'Snapshot', metadata: this.#meta(name), spec });
  }

  /** The agent has taken a snapshot, now. */
  take(name: string): void {
    this.update(name, { takenAt: new Date(this.nowMs).toISOString() }, 'True', 'Taken');
  }

  update(name: string, status: Snapshot['status'], ready: 'True' | 'False' | 'Unknown', reason: string): void {
    const snapshot = this.snapshots.get(name);
    if (snapshot === undefined) throw new Error(`there is no Snapshot ${name}`);
    const condition = {
      type: 'Ready',
      status: ready,
      reason,
      message: reason,
      lastTransitionTime: '2026-01-01T00:00:00Z',
    };
    this.snapshots.set(name, { ...snapshot, status: { ...snapshot.status, ...status, conditions: [condition] } });
  }

  get pending(): string[] {
    return this.#named((snapshot) => snapshot.status?.takenAt === undefined);
  }

  get taken(): string[] {
    return this.#named((snapshot) => snapshot.status?.takenAt !== undefined);
  }

  #named(predicate: (snapshot: Snapshot) => boolean): string[] {
    return [...this.snapshots.values()].filter(predicate).map(({ metadata }) => metadata.name);
  }

  condition(type: string): string | undefined {
    const found = this.schedule.status?.conditions?.find((condition) => condition.type === type);
    return found && `${found.status} ${found.reason}`;
  }

  #meta(name: string) {
    this.#uid += 1;
    return { name, namespace: 'shop', uid: `uid-${this.#uid}`, resourceVersion: '1', generation: 1 };
  }
}
