import { randomUUID } from 'node:crypto';
import { errorCode } from '../../common/errors.ts';
import { type GroupPlan, type GroupWorld, planGroup } from '../planning/plan-group.ts';
import { kubeTime } from '../resources/conditions.ts';
import { groupUidLabel } from '../resources/group.ts';
import { keyOf, type NewObject, parseKeyText } from '../resources/kube-object.ts';
import { type Snapshot, snapshots } from '../resources/snapshot.ts';
import {
  type SnapshotGroup,
  type SnapshotGroupSpec,
  type SnapshotGroupStatus,
  snapshotGroups,
} from '../resources/snapshot-group.ts';
import type { ControllerContext } from './controller-context.ts';
import { GroupSessions } from './group-sessions.ts';
import { ObjectWriter } from './object-writer.ts';
import type { Result } from './work-queue.ts';

/** More rounds than any course of things takes: finalizer, members, Snapshots, start, run, end. */
const maxRounds = 10;

/** Makes the Snapshots of groups, and has all of them taken at one moment. One key is one SnapshotGroup. */
export class GroupController {
  readonly #context: ControllerContext;
  readonly #writer: ObjectWriter<SnapshotGroupSpec, SnapshotGroupStatus>;
  readonly #sessions: GroupSessions;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#writer = new ObjectWriter(context.api, snapshotGroups, context.caches.groups, context.events);
    this.#sessions = new GroupSessions(context.actions, randomUUID);
  }

  async reconcile(key: string): Promise<Result> {
    for (let round = 0; round < maxRounds; round += 1) {
      const group = this.#context.caches.groups.get(parseKeyText(key));
      if (group === undefined) return { type: 'done' };
      const plan = planGroup(this.#worldOf(group));
      if (await this.#writer.hold(group, plan)) continue;
      if (await this.#writer.write(group, plan)) continue;
      if (plan.run !== undefined) {
        await this.#sessions.run(group.metadata.uid, plan.run.attempt, plan.run.requests);
        continue;
      }
      for (const object of plan.make) await this.#make(object);
      for (const snapshot of plan.remove) await this.#remove(snapshot);
      if (plan.settled) this.#sessions.forget(group.metadata.uid);
      return this.#next(plan);
    }
    return { type: 'again', afterMs: this.#context.intervals.transitionalMs };
  }

  #next({ settled, nextMs }: GroupPlan): Result {
    const { intervals, clock } = this.#context;
    const afterMs = settled ? intervals.idleMs : intervals.transitionalMs;
    if (nextMs === undefined) return { type: 'again', afterMs };
    return { type: 'again', afterMs: Math.max(0, Math.min(afterMs, nextMs - clock.wallTimeMs())) };
  }

  #worldOf(group: SnapshotGroup): GroupWorld {
    const { caches, clock } = this.#context;
    const { namespace, uid } = group.metadata;
    const nowMs = clock.wallTimeMs();
    const isHere = ({ metadata }: { readonly metadata: { readonly namespace?: string } }) =>
      metadata.namespace === namespace;
    const here = caches.snapshots.list().filter(isHere);
    const isOwn = ({ metadata }: Snapshot) => metadata.labels?.[groupUidLabel] === uid;
    return {
      now: kubeTime(nowMs),
      nowMs,
      group,
      own: here.filter(isOwn),
      strangers: new Set(here.filter((each) => !isOwn(each)).map(({ metadata }) => metadata.name)),
      sources: { mirrors: caches.mirrors.list().filter(isHere), volumes: caches.volumes.list().filter(isHere) },
      session: this.#sessions.sessionFor(uid, group.status),
    };
  }

  /** One that is there already is seen soon. */
  async #make(object: NewObject<Snapshot>): Promise<void> {
    const { api, caches } = this.#context;
    try {
      caches.snapshots.put(await api.create(snapshots, object));
    } catch (error) {
      if (errorCode(error) !== 'AlreadyExists') throw error;
    }
  }

  /** Of this very object: a Snapshot that has its name by now is another's. */
  async #remove(snapshot: Snapshot): Promise<void> {
    await this.#context.api.delete(snapshots, keyOf(snapshot), { uid: snapshot.metadata.uid });
  }
}
