import type { AgentDirectory } from '../agent-client/agent-client.ts';
import type { Observation, Outcome } from '../planning/actions.ts';
import type { BindingFact } from '../planning/binding-fact.ts';
import { planVolume, type VolumePlan } from '../planning/plan-volume.ts';
import { copiesToObserve, type VolumeSource, type VolumeWorld } from '../planning/volume-world.ts';
import { kubeTime } from '../resources/conditions.ts';
import { type ObjectKey, parseKeyText } from '../resources/kube-object.ts';
import type { PrimaryVolume, PrimaryVolumeSpec, PrimaryVolumeStatus } from '../resources/primary-volume.ts';
import { primaryVolumes } from '../resources/primary-volume.ts';
import type { StandbyMirror, StandbyMirrorSpec, StandbyMirrorStatus } from '../resources/standby-mirror.ts';
import { standbyMirrors } from '../resources/standby-mirror.ts';
import { type AgentActions, anyFailed, notDoneYet, recordOutcome } from './agent-actions.ts';
import { BindingFacts } from './binding-facts.ts';
import type { ClusterCaches } from './cluster-caches.ts';
import type { ControllerContext } from './controller-context.ts';
import { ObjectWriter } from './object-writer.ts';
import { evictPods } from './pod-eviction.ts';
import type { Result } from './work-queue.ts';

/** More rounds than any course of things takes: finalizer, placement, creation, link, status. */
const maxRounds = 12;

/**
 * Makes a volume and its mirrors what their objects say. One key is one PrimaryVolume with everything that names it, so
 * that nothing else talks to its agents at the same time.
 */
export class VolumeController {
  readonly #context: ControllerContext;
  readonly #caches: ClusterCaches;
  readonly #agents: AgentDirectory;
  readonly #actions: AgentActions;
  readonly #bindings: BindingFacts;
  readonly #volumes: ObjectWriter<PrimaryVolumeSpec, PrimaryVolumeStatus>;
  readonly #mirrors: ObjectWriter<StandbyMirrorSpec, StandbyMirrorStatus>;

  constructor(context: ControllerContext) {
    const { api, caches, events } = context;
    this.#context = context;
    this.#caches = caches;
    this.#agents = context.agents;
    this.#actions = context.actions;
    this.#bindings = new BindingFacts(context);
    this.#volumes = new ObjectWriter(api, primaryVolumes, caches.volumes, events);
    this.#mirrors = new ObjectWriter(api, standbyMirrors, caches.mirrors, events);
  }

  /**
   * Observes, plans, acts, until there is nothing left to do now; then writes the statuses. What is written changes what
   * there is to do, so it is planned once more.
   */
  async reconcile(key: string): Promise<Result> {
    const outcomes = new Map<string, Outcome>();
    const silent = new Map<string, Observation>();
    for (let round = 0; round < maxRounds; round += 1) {
      const world = await this.#observe(parseKeyText(key), outcomes, silent);
      if (world.volume === undefined && world.mirrors.length === 0) return { type: 'done' };
      const plan = planVolume(world);
      if (await this.#hold(world, plan)) continue;
      const actions = notDoneYet(plan.actions, outcomes);
      for (const action of actions) recordOutcome(outcomes, await this.#actions.perform(action));
      if (actions.length > 0) continue;
      if (await this.#write(world, plan)) continue;
      if (world.volume && plan.eviction) await evictPods(this.#context, world.volume, plan.eviction);
      return this.#next(plan, anyFailed(outcomes));
    }
    return { type: 'again', afterMs: this.#context.intervals.transitionalMs };
  }

  #next(plan: VolumePlan, failed: boolean): Result {
    if (failed) return { type: 'failed' };
    const { idleMs, transitionalMs, watchfulMs = idleMs } = this.#context.intervals;
    if (!plan.settled) return { type: 'again', afterMs: transitionalMs };
    return { type: 'again', afterMs: plan.watchful ? watchfulMs : idleMs };
  }

  async #observe(
    key: ObjectKey,
    outcomes: ReadonlyMap<string, Outcome>,
    silent: Map<string, Observation>,
  ): Promise<VolumeWorld> {
    const volume = this.#caches.volumes.get(key);
    const mirrors = this.#mirrorsOf(key);
    const observations = await this.#actions.observeAll(copiesToObserve(volume, mirrors), silent);
    return {
      now: kubeTime(this.#context.clock.wallTimeMs()),
      key,
      volume,
      mirrors,
      snapshots: this.#caches.snapshots.list().filter(({ metadata }) => metadata.namespace === key.namespace),
      source: this.#sourceOf(volume),
      cluster: this.#caches.cluster(this.#agents),
      observations,
      outcomes,
      claims: await this.#claims(volume, mirrors),
    };
  }

  #sourceOf(volume: PrimaryVolume | undefined): VolumeSource | undefined {
    const name = volume?.spec?.source?.restore;
    const { namespace } = volume?.metadata ?? {};
    if (name === undefined || namespace === undefined) return undefined;
    const restore = this.#caches.restores.get({ namespace, name });
    const node = restore?.status?.source?.node;
    return { restore, address: node === undefined ? undefined : this.#agents.find(node)?.mirrorAddress };
  }

  async #claims(
    volume: PrimaryVolume | undefined,
    mirrors: readonly StandbyMirror[],
  ): Promise<ReadonlyMap<string, BindingFact>> {
    const facts = new Map<string, BindingFact>();
    if (volume) facts.set(volume.metadata.uid, await this.#bindings.of({ kind: 'PrimaryVolume', object: volume }));
    for (const mirror of mirrors) {
      facts.set(mirror.metadata.uid, await this.#bindings.of({ kind: 'StandbyMirror', object: mirror }));
    }
    return facts;
  }

  #mirrorsOf(key: ObjectKey): StandbyMirror[] {
    return this.#caches.mirrors
      .list()
      .filter((mirror) => mirror.metadata.namespace === key.namespace && volumeNameOf(mirror) === key.name)
      .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  }

  async #hold(world: VolumeWorld, plan: VolumePlan): Promise<boolean> {
    let held = false;
    if (world.volume && plan.volume) held = await this.#volumes.hold(world.volume, plan.volume);
    for (const mirror of world.mirrors) {
      const planned = plan.mirrors.get(mirror.metadata.name);
      if (planned && (await this.#mirrors.hold(mirror, planned))) held = true;
    }
    return held;
  }

  async #write(world: VolumeWorld, plan: VolumePlan): Promise<boolean> {
    let written = false;
    if (world.volume && plan.volume) {
      written = await this.#volumes.write(world.volume, plan.volume);
      this.#announceNewPrimary(world, plan.volume.status);
    }
    for (const mirror of world.mirrors) {
      const planned = plan.mirrors.get(mirror.metadata.name);
      if (planned && (await this.#mirrors.write(mirror, planned))) written = true;
    }
    return written;
  }

  #announceNewPrimary({ volume }: VolumeWorld, status: PrimaryVolumeStatus): void {
    const before = volume?.status?.epoch;
    if (volume === undefined || before === undefined || status.epoch === undefined || status.epoch <= before) return;
    this.#context.events.record(volume, {
      type: 'Warning',
      reason: 'PrimaryChanged',
      message: `the primary is on node ${status.node} now, in epoch ${status.epoch}; it was on node ${volume.status?.node}`,
    });
  }
}

/** The name of the volume that a mirror is of; objects may be malformed. */
export function volumeNameOf(mirror: StandbyMirror): string | undefined {
  return mirror.spec?.primaryVolumeRef?.name;
}
