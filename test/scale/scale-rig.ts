import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { applyManifest } from '../../operator/kube/apply.ts';
import { InMemoryKubeApi } from '../../operator/kube/in-memory-kube-api.ts';
import { type Condition, type ConditionType, findCondition } from '../../operator/resources/conditions.ts';
import type { CustomObject } from '../../operator/resources/kube-object.ts';
import type { CustomResource } from '../../operator/resources/resource.ts';
import { snapshots } from '../../operator/resources/snapshot.ts';
import { standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import { chartDirectory } from '../chart/support/helm.ts';
import { type OperatorProcess, startOperator } from '../kubernetes/support/operator-process.ts';
import { mirrorYaml, nodeYaml, poolYaml, snapshotYaml, volumeYaml } from '../support/manifests.ts';
import { SimulatedCluster } from '../support/simulated-agent.ts';
import { waitFor } from '../support/wait-for.ts';
import { type ProcessUsage, usageOf } from './process-usage.ts';
import { ServedAgents } from './served-agents.ts';
import { ServedApi } from './served-api.ts';

export interface ScaleSize {
  readonly volumes: number;
  readonly snapshotsOfEach: number;
}

interface Spent {
  readonly apiRequests: number;
  readonly agentRequests: number;
  readonly cpuMs: number;
}

const nodes = Array.from({ length: 20 }, (_, index) => `node-${index}`);
const namespaces = Array.from({ length: 20 }, (_, index) => `team-${index}`);
const patienceMs = 1_200_000;

/** What the chart starts an operator with. */
async function nodeOptionsOfChart(): Promise<string> {
  const template = await readFile(join(chartDirectory, 'templates', 'operator.yaml'), 'utf8');
  const found = /name: NODE_OPTIONS, value: "([^"]*)"/.exec(template)?.[1];
  if (found === undefined) throw new Error('the chart gives the operator no NODE_OPTIONS');
  return found;
}

/**
 * Volumes `volume-0`, … in turn in all namespaces, each with a mirror and snapshots, on an operator that is a process of its
 * own; its API and its agents are in this one.
 */
export class ScaleRig {
  readonly #size: ScaleSize;
  readonly #memory: InMemoryKubeApi;
  readonly #api: ServedApi;
  readonly #agents: ServedAgents;
  readonly #operator: OperatorProcess;
  readonly #directory: string;

  private constructor(
    size: ScaleSize,
    memory: InMemoryKubeApi,
    served: { api: ServedApi; agents: ServedAgents; operator: OperatorProcess; directory: string },
  ) {
    this.#size = size;
    this.#memory = memory;
    this.#api = served.api;
    this.#agents = served.agents;
    this.#operator = served.operator;
    this.#directory = served.directory;
  }

  static async start(size: ScaleSize, agentDelayMs: number): Promise<ScaleRig> {
    const memory = new InMemoryKubeApi({ namespaces });
    const cluster = new SimulatedCluster(Object.fromEntries(nodes.map((node) => [node, ['main', 'buffer']])));
    const directory = await mkdtemp(join(tmpdir(), 'understudy-scale-'));
    const kubeconfig = join(directory, 'kubeconfig');
    const api = await ServedApi.start(memory);
    await writeFile(kubeconfig, api.kubeconfig());
    const agents = await ServedAgents.start(cluster.directory(), agentDelayMs);
    process.env.NODE_OPTIONS = await nodeOptionsOfChart();
    const operator = await startOperator(kubeconfig, agents.addresses(), { log: { level: 'warn' } });
    return new ScaleRig(size, memory, { api, agents, operator, directory });
  }

  /** What the operator's process takes. */
  usage(): ProcessUsage {
    return usageOf(this.#operator.pid());
  }

  /** Another process takes over, as after an upgrade: it lists everything there is. */
  async restartOperator(): Promise<void> {
    await this.#operator.stop();
    await this.#operator.start();
  }

  /** Nodes and their pools. */
  async prepare(): Promise<void> {
    for (const node of nodes) {
      const yaml = [nodeYaml(node), poolYaml(node, 'main'), poolYaml(node, 'buffer', ', purpose: buffer')];
      await applyManifest(this.#memory, yaml.join('\n---\n'), { namespace: 'default' });
    }
  }

  /** @returns how long it took, in milliseconds */
  async bringUpVolumes(): Promise<number> {
    return await this.#timed(async () => {
      for (let index = 0; index < this.#size.volumes; index += 1) {
        const [node = '', other = ''] = [nodes[index % nodes.length], nodes[(index + 1) % nodes.length]];
        const name = `volume-${index}`;
        const yaml = [volumeYaml(name, { nodeName: node }, ''), mirrorYaml(`${name}-standby`, name, other, 32)];
        await applyManifest(this.#memory, yaml.join('\n---\n'), { namespace: this.#namespaceOf(index) });
      }
      await this.#allHave(standbyMirrors, this.#size.volumes, 'InSync');
    });
  }

  async bringUpSnapshots(): Promise<number> {
    const { volumes, snapshotsOfEach } = this.#size;
    return await this.#timed(async () => {
      for (let index = 0; index < volumes * snapshotsOfEach; index += 1) {
        const volume = index % volumes;
        const yaml = `${snapshotYaml(`snapshot-${index}`, `volume-${volume}-standby`)}\n  claim: false`;
        await applyManifest(this.#memory, yaml, { namespace: this.#namespaceOf(volume) });
      }
      await this.#allHave(snapshots, volumes * snapshotsOfEach, 'Ready');
    });
  }

  /** Resolves when nothing has been written for a while: what follows the last change, counts for example, is written too. */
  async settle(): Promise<void> {
    let [before, sinceMs] = [-1, performance.now()];
    const isQuiet = () => {
      const now = this.#api.requests;
      if (now !== before) [before, sinceMs] = [now, performance.now()];
      return performance.now() - sinceMs > 35_000;
    };
    await waitFor(isQuiet, { timeoutMs: patienceMs, intervalMs: 1000, what: 'the end of all writing' });
  }

  /** What it takes while `activity` goes on. */
  async watch(activity: () => Promise<unknown>): Promise<Spent> {
    const [api, agents, cpu] = [this.#api.requests, this.#agents.requests, this.usage().cpuMs];
    await activity();
    return {
      apiRequests: this.#api.requests - api,
      agentRequests: this.#agents.requests - agents,
      cpuMs: this.usage().cpuMs - cpu,
    };
  }

  /** Allows a mirror fewer snapshots, and waits until its status is about that. @returns milliseconds */
  async change(index: number): Promise<number> {
    const volume = index % this.#size.volumes;
    const key = { namespace: this.#namespaceOf(volume), name: `volume-${volume}-standby` };
    return await this.#timed(async () => {
      const { metadata } = await this.#memory.patch(standbyMirrors, key, { spec: { buffer: { maxSnapshots: 31 } } });
      const isDone = async () =>
        (await this.#memory.get(standbyMirrors, key))?.status?.observedGeneration === metadata.generation;
      await waitFor(isDone, { timeoutMs: patienceMs, intervalMs: 5, what: `the change of ${key.name}` });
    });
  }

  async stop(): Promise<void> {
    await this.#operator.remove();
    await this.#api.stop();
    await this.#agents.stop();
    await rm(this.#directory, { recursive: true });
  }

  #namespaceOf(volume: number): string {
    return namespaces[volume % namespaces.length] ?? '';
  }

  async #timed(activity: () => Promise<void>): Promise<number> {
    const startMs = performance.now();
    await activity();
    return performance.now() - startMs;
  }

  async #allHave<Spec, Status extends { conditions?: readonly Condition[] | undefined }>(
    resource: CustomResource<Spec, Status>,
    count: number,
    type: ConditionType,
  ): Promise<void> {
    const areAll = async () => {
      const { items } = await this.#memory.list<CustomObject<Spec, Status>>(resource);
      const having = items.filter(({ status }) => findCondition(status?.conditions, type)?.status === 'True');
      return having.length === count;
    };
    await waitFor(areAll, { timeoutMs: patienceMs, intervalMs: 250, what: `${count} ${resource.plural} ${type}` });
  }
}
