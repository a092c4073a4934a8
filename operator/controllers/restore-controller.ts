import { errorCode } from '../../common/errors.ts';
import type { Outcome } from '../planning/actions.ts';
import { claimNameOf } from '../planning/bindings.ts';
import { beforeName, planRestore } from '../planning/plan-restore.ts';
import type { RestorePlan, RestoreWorld } from '../planning/restore-plan.ts';
import { agentVolumeName } from '../planning/volume-world.ts';
import { kubeTime } from '../resources/conditions.ts';
import { pods } from '../resources/core-kinds.ts';
import { type KubeObject, type NewObject, parseKeyText } from '../resources/kube-object.ts';
import { type PrimaryVolume, primaryVolumes } from '../resources/primary-volume.ts';
import type { Resource } from '../resources/resource.ts';
import { type Snapshot, snapshots } from '../resources/snapshot.ts';
import {
  type SnapshotRestore,
  type SnapshotRestoreSpec,
  type SnapshotRestoreStatus,
  snapshotRestores,
} from '../resources/snapshot-restore.ts';
import { anyFailed, notDoneYet, recordOutcome } from './agent-actions.ts';
import type { ControllerContext } from './controller-context.ts';
import { ObjectWriter } from './object-writer.ts';
import type { ResourceCache } from './resource-cache.ts';
import { volumeNameOf } from './volume-controller.ts';
import type { Result } from './work-queue.ts';

/** More rounds than any course of things takes: finalizer, snapshot, order, status. */
const maxRounds = 8;
/** Pods in these phases do not use their volumes any more. */
const ended: readonly (string | undefined)[] = ['Succeeded', 'Failed'];

/** Orders restores at the agents and follows them. One key is one SnapshotRestore. */
export class RestoreController {
  readonly #context: ControllerContext;
  readonly #writer: ObjectWriter<SnapshotRestoreSpec, SnapshotRestoreStatus>;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#writer = new ObjectWriter(context.api, snapshotRestores, context.caches.restores, context.events);
  }

  async reconcile(key: string): Promise<Result> {
    const outcomes = new Map<string, Outcome>();
    for (let round = 0; round < maxRounds; round += 1) {
      const restore = this.#context.caches.restores.get(parseKeyText(key));
      if (restore === undefined) return { type: 'done' };
      const plan = planRestore(await this.#observe(restore, outcomes));
      if (await this.#writer.hold(restore, plan)) continue;
      const actions = notDoneYet(plan.actions, outcomes);
      for (const action of actions) recordOutcome(outcomes, await this.#context.actions.perform(action));
      if (actions.length > 0 || (await this.#writer.write(restore, plan))) continue;
      const { caches } = this.#context;
      if (plan.makeBefore !== undefined) await this.#make(snapshots, caches.snapshots, plan.makeBefore);
      if (plan.makeVolume !== undefined) await this.#make(primaryVolumes, caches.volumes, plan.makeVolume);
      return this.#next(plan, anyFailed(outcomes));
    }
    return { type: 'again', afterMs: this.#context.intervals.transitionalMs };
  }

  #next({ settled }: RestorePlan, failed: boolean): Result {
    if (failed) return { type: 'failed' };
    const { intervals } = this.#context;
    return { type: 'again', afterMs: settled ? intervals.idleMs : intervals.transitionalMs };
  }

  async #make<T extends KubeObject>(kind: Resource<T>, cache: ResourceCache<T>, object: NewObject<T>): Promise<void> {
    try {
      cache.put(await this.#context.api.create(kind, object));
    } catch (error) {
      // Ours, from a moment ago, or another that will be seen.
      if (errorCode(error) !== 'AlreadyExists') throw error;
    }
  }

  async #observe(restore: SnapshotRestore, outcomes: ReadonlyMap<string, Outcome>): Promise<RestoreWorld> {
    const { caches, clock, actions, agents } = this.#context;
    const { namespace = '' } = restore.metadata;
    const { status } = restore;
    const snapshot = caches.snapshots.get({ namespace, name: restore.spec?.snapshot ?? '' });
    const name =
      (restore.spec?.newVolume === undefined ? status?.primaryVolume : undefined) ??
      this.#volumeNameOf(snapshot, namespace);
    const volume = name === undefined ? undefined : caches.volumes.get({ namespace, name });
    const into = restore.spec?.newVolume?.name;
    const target = into === undefined ? undefined : caches.volumes.get({ namespace, name: into });
    const node = (into === undefined ? volume : target)?.status?.node;
    const agentVolume =
      into === undefined ? (status?.volume ?? volume?.status?.volume) : target && agentVolumeName(target);
    const isOver = status?.completedAt !== undefined;
    const look = node !== undefined && agentVolume !== undefined && !isOver;
    const keeper = snapshot?.status?.node;
    return {
      now: kubeTime(clock.wallTimeMs()),
      restore,
      snapshot,
      volume,
      target,
      before: caches.snapshots.get({ namespace, name: beforeName(restore) }),
      primary: look ? await actions.observe(node, agentVolume) : undefined,
      keeperAddress: keeper === undefined ? undefined : agents.find(keeper)?.mirrorAddress,
      users: volume !== undefined && status?.restore === undefined ? await this.#users(volume) : [],
      outcomes,
    };
  }

  #volumeNameOf(snapshot: Snapshot | undefined, namespace: string): string | undefined {
    const { mirror, volume } = snapshot?.spec?.source ?? {};
    if (mirror === undefined) return volume;
    const of = this.#context.caches.mirrors.get({ namespace, name: mirror });
    return of && volumeNameOf(of);
  }

  async #users(volume: PrimaryVolume): Promise<string[]> {
    const { namespace = '' } = volume.metadata;
    const claim = claimNameOf('PrimaryVolume', volume);
    const { items } = await this.#context.api.list(pods, { namespace });
    return items
      .filter(({ status }) => !ended.includes(status?.phase))
      .filter(({ spec }) => spec?.volumes?.some((used) => used.persistentVolumeClaim?.claimName === claim))
      .map(({ metadata }) => `pod ${metadata.name}`)
      .sort();
  }
}
