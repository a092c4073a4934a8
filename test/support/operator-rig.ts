import { readFileSync } from 'node:fs';
import path from 'node:path';
import { decideSwap, recordHolderSchema } from '../../agent/arbiter/record-swap.ts';
import type { Clock } from '../../common/clock.ts';
import { silentLog } from '../../common/log.ts';
import { applyManifest } from '../../operator/kube/apply.ts';
import { InMemoryKubeApi, type InMemoryOptions } from '../../operator/kube/in-memory-kube-api.ts';
import { type Condition, type ConditionType, findCondition } from '../../operator/resources/conditions.ts';
import { events, nodes } from '../../operator/resources/core-kinds.ts';
import type { CustomObject, KubeObject } from '../../operator/resources/kube-object.ts';
import { type PrimaryVolume, primaryVolumes } from '../../operator/resources/primary-volume.ts';
import type { CustomResource, Resource } from '../../operator/resources/resource.ts';
import { type Snapshot, snapshots } from '../../operator/resources/snapshot.ts';
import { type StandbyMirror, standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import {
  type PersistentVolume,
  type PersistentVolumeClaim,
  persistentVolumeClaims,
  persistentVolumes,
} from '../../operator/resources/storage-kinds.ts';
import { type Operator, startOperator } from '../../operator/start-operator.ts';
import { nodeYaml } from './manifests.ts';
import { SimulatedCluster } from './simulated-agent.ts';
import { SimulatedBinder } from './simulated-binder.ts';
import { waitFor } from './wait-for.ts';

const timeoutMs = 20_000;

/** An operator (on the clock of the options) on an API in memory, with simulated agents on nodes that each have a pool "main" and a pool "buffer". */
export class OperatorRig {
  readonly api: InMemoryKubeApi;
  readonly cluster: SimulatedCluster;
  #operator: Operator | undefined;
  readonly #namespace: string;
  readonly #clock: Clock | undefined;
  #binder: SimulatedBinder | undefined;

  /** @param options `beside`: another rig, for a second operator on its API and its agents. */
  constructor(options: InMemoryOptions & { readonly nodes?: readonly string[]; readonly beside?: OperatorRig } = {}) {
    const { nodes = ['node-a', 'node-b', 'node-c'], beside, ...inMemory } = options;
    this.#namespace = 'shop';
    this.#clock = options.clock;
    this.api = beside?.api ?? new InMemoryKubeApi({ namespaces: ['default', 'shop'], ...inMemory });
    const pools = Object.fromEntries(nodes.map((node) => [node, ['main', 'buffer']]));
    this.cluster = beside?.cluster ?? new SimulatedCluster(pools);
  }

  /** @param agents the nodes whose agents it is told of; all of them by default. */
  start(agents?: readonly string[]): void {
    this.#operator = startOperator({
      api: this.api,
      agents: this.cluster.directory(agents),
      log: silentLog,
      ...(this.#clock === undefined ? {} : { clock: this.#clock }),
      intervals: { transitionalMs: 20, idleMs: 40 },
    });
  }

  /** The agents have the record of the volume for an arbiter from now on. */
  useArbiter(): void {
    this.cluster.arbiter = async (node, question, state) => {
      const volume = await this.volume();
      if (volume === undefined) return 'unreachable';
      const decision = decideSwap(recordHolderSchema.parse(volume), node, question, state);
      if (decision.do === 'answer') return decision.answer;
      const swap = this.api.patch(primaryVolumes, this.key('data'), { ...decision.patch }, { subresource: 'status' });
      return await swap.then(
        () => 'granted' as const,
        () => 'unreachable' as const,
      );
    };
  }

  /** From now on claims are bound, and protected while they are used, as by kube-controller-manager. */
  bindClaims(): void {
    this.#binder = new SimulatedBinder(this.api);
  }

  async stop(): Promise<void> {
    await this.#binder?.stop();
    this.#binder = undefined;
    await this.#operator?.stop();
    this.#operator = undefined;
  }

  async restart(agents?: readonly string[]): Promise<void> {
    await this.#operator?.stop();
    this.start(agents);
  }

  async apply(yamlText: string): Promise<void> {
    await applyManifest(this.api, yamlText, { namespace: this.#namespace });
  }

  /** Applies files of examples/quickstart. */
  async applyQuickstart(...files: readonly string[]): Promise<void> {
    for (const file of files) {
      await this.apply(
        readFileSync(path.join(import.meta.dirname, '../../examples/quickstart', `${file}.yaml`), 'utf8'),
      );
    }
  }

  key(name: string) {
    return { namespace: this.#namespace, name };
  }

  volume(name = 'data'): Promise<PrimaryVolume | undefined> {
    return this.api.get(primaryVolumes, this.key(name));
  }

  mirror(name = 'data-standby'): Promise<StandbyMirror | undefined> {
    return this.api.get(standbyMirrors, this.key(name));
  }

  snapshot(name = 'data-before-upgrade'): Promise<Snapshot | undefined> {
    return this.api.get(snapshots, this.key(name));
  }

  claim(name: string): Promise<PersistentVolumeClaim | undefined> {
    return this.api.get(persistentVolumeClaims, this.key(name));
  }

  persistentVolume(name: string): Promise<PersistentVolume | undefined> {
    return this.api.get(persistentVolumes, { name });
  }

  /** Makes Node objects, so that they can have labels. */
  async addNodes(...names: readonly string[]): Promise<void> {
    for (const name of names) await this.apply(nodeYaml(name));
  }

  /** The nodes that have a label. */
  async nodesWith(label: string): Promise<string[]> {
    const { items } = await this.api.list(nodes, { labelSelector: label });
    return items.map(({ metadata }) => metadata.name);
  }

  /** The messages of the events about an object, with their reasons. */
  async eventsOf(name: string): Promise<string[]> {
    const { items } = await this.api.list(events);
    return items
      .filter((event) => event.involvedObject.name === name)
      .map(({ reason, message }) => `${reason}: ${message}`);
  }

  /** The name of a volume at the agents. */
  async agentVolume(name = 'data'): Promise<string> {
    return `pv-${(await this.volume(name))?.metadata.uid}`;
  }

  /** Waits for a condition of an object to have this status, and this reason if one is given. */
  async waitForCondition<Spec, Status extends { conditions?: readonly Condition[] | undefined }>(
    resource: CustomResource<Spec, Status>,
    name: string,
    type: ConditionType,
    status: Condition['status'],
    reason?: string,
  ): Promise<Condition> {
    let last: unknown;
    try {
      return await waitFor(
        async () => {
          const object = await this.api.get<CustomObject<Spec, Status>>(resource, this.key(name));
          const condition = findCondition(object?.status?.conditions, type);
          last = object?.status?.conditions;
          return condition?.status === status && (reason === undefined || condition.reason === reason)
            ? condition
            : undefined;
        },
        { timeoutMs },
      );
    } catch {
      throw new Error(`${name} never had ${type}=${status} ${reason ?? ''}; it had ${JSON.stringify(last, null, 1)}`);
    }
  }

  async waitForGone<T extends KubeObject>(resource: Resource<T>, name: string): Promise<void> {
    await waitFor(async () => (await this.api.get(resource, this.key(name))) === undefined, {
      timeoutMs,
      what: `the end of ${resource.kind} ${name}`,
    });
  }

  /** The quickstart, up to a mirror that is in sync. */
  async mirroredVolume(): Promise<void> {
    await this.applyQuickstart('nodepools', 'primary-volume', 'standby-mirror');
    await this.waitForCondition(standbyMirrors, 'data-standby', 'InSync', 'True');
  }

  /** … and a snapshot of it. */
  async mirroredVolumeWithSnapshot(): Promise<void> {
    await this.mirroredVolume();
    await this.applyQuickstart('snapshot');
    await this.waitForCondition(snapshots, 'data-before-upgrade', 'Ready', 'True');
  }
}
