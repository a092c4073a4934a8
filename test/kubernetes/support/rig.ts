import { randomBytes } from 'node:crypto';
import { expect } from 'vitest';
import type { KubeApi } from '../../../operator/kube/kube-api.ts';
import { type Condition, findCondition } from '../../../operator/resources/conditions.ts';
import type { KubeObject } from '../../../operator/resources/kube-object.ts';
import { nodePools } from '../../../operator/resources/node-pool.ts';
import { primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import type { Resource } from '../../../operator/resources/resource.ts';
import { snapshots } from '../../../operator/resources/snapshot.ts';
import { snapshotGroups } from '../../../operator/resources/snapshot-group.ts';
import { standbyMirrors } from '../../../operator/resources/standby-mirror.ts';
import { waitFor } from '../../support/wait-for.ts';
import { type AgentProcess, startAgent } from './agent-process.ts';
import { installCrds } from './crds.ts';
import { kubeApiOf } from './kube-api-of.ts';
import { type Kubectl, kubectlOf } from './kubectl.ts';
import { manifest, pool } from './manifests.ts';
import { type OperatorProcess, startOperator } from './operator-process.ts';

/** A cluster with Understudy running for it: an operator, and the agents of node-a, node-b and whichever were asked for. */
export interface Rig {
  /** For what a user does. */
  kubectl: Kubectl;
  /** For what a test asks again and again. */
  api: KubeApi;
  operator: OperatorProcess;
  agents: { a: AgentProcess; b: AgentProcess; others: AgentProcess[] };
  /** Makes a namespace with a name of its own. */
  namespace(): Promise<string>;
  /** `kubectl apply` of these objects. */
  apply(...objects: object[]): Promise<void>;
  /** Waits until the object has the condition. @throws Error that tells the object's status and what the operator logged. */
  reaches<T extends ConditionedObject>(
    resource: Resource<T>,
    namespace: string | undefined,
    name: string,
    wanted: WantedCondition,
  ): Promise<T>;
  /** Waits until the object is gone. @throws as `reaches` */
  vanishes(resource: Resource, namespace: string | undefined, name: string): Promise<void>;
  /** Nothing of ours is left in the namespaces made, nor at the agents, nor on their disks. */
  expectNothingLeft(): Promise<void>;
  /** Stops the processes and deletes what was made in the cluster. */
  remove(): Promise<void>;
}

export interface WantedCondition {
  type: Condition['type'];
  status: Condition['status'];
  reason?: string;
}

/** An object about which the operator says something. */
export type ConditionedObject = KubeObject & { readonly status?: { readonly conditions?: Condition[] | undefined } };

interface Cluster {
  readonly kubectl: string;
  readonly kubeconfig: string;
  readonly version: string;
}

const settleMs = 90_000;
const pollMs = 100;

interface RigOptions {
  /** Whether the agents have the API server for an arbiter. */
  readonly arbiter?: boolean;
  /** Of the operator, if it is not to be the administrator. */
  readonly operatorKubeconfig?: string;
  /** Where the operator is to reach an agent, if not at its own address. */
  readonly reach?: (agent: AgentProcess) => Promise<ReachedAgent>;
}

type ReachedAgent = Pick<AgentProcess, 'node' | 'apiAddress' | 'mirrorAddress'>;

export async function startRig(
  cluster: Cluster,
  moreNodes: readonly string[] = [],
  options: RigOptions = {},
): Promise<Rig> {
  const cleanups: (() => Promise<unknown>)[] = [];
  const remove = async () => {
    for (const cleanup of cleanups.reverse()) await cleanup();
  };
  try {
    return await assemble(cluster, ['node-a', 'node-b', ...moreNodes], options, cleanups, remove);
  } catch (error) {
    await remove();
    throw error;
  }
}

async function assemble(
  cluster: Cluster,
  nodes: readonly string[],
  { arbiter = false, operatorKubeconfig = cluster.kubeconfig, reach = async (agent) => agent }: RigOptions,
  cleanups: (() => Promise<unknown>)[],
  remove: Rig['remove'],
): Promise<Rig> {
  const kubectl = kubectlOf(cluster);
  const api = kubeApiOf(cluster);
  await installCrds(kubectl, cluster.version);
  const more = () => (arbiter ? { arbiter: 'kubernetes', kubernetes: { kubeconfig: cluster.kubeconfig } } : {});
  const [a, b, ...others] = await Promise.all(nodes.map((node) => startAgent(node, 'none', more)));
  if (a === undefined || b === undefined) throw new Error('two agents were started');
  cleanups.push(() => Promise.all([a, b, ...others].map((agent) => agent.remove())));
  const operator = await startOperator(operatorKubeconfig, await Promise.all([a, b, ...others].map(reach)));
  cleanups.push(() => operator.remove());
  const namespaces: string[] = [];
  cleanups.push(
    () => kubectl.try(['delete', 'namespace', '--wait=false', '--ignore-not-found', ...namespaces]),
    () => kubectl.try(['delete', 'nodepools', '--all']),
  );

  const rig: Rig = {
    kubectl,
    api,
    operator,
    agents: { a, b, others },
    remove,
    async namespace() {
      const name = `rig-${randomBytes(4).toString('hex')}`;
      await kubectl.run(['create', 'namespace', name]);
      namespaces.push(name);
      return name;
    },
    async apply(...objects) {
      await kubectl.run(['apply', '-f', '-'], manifest(...objects));
    },
    async reaches<T extends ConditionedObject>(
      resource: Resource<T>,
      namespace: string | undefined,
      name: string,
      wanted: WantedCondition,
    ) {
      let object: T | undefined;
      const found = async () => {
        object = await api.get(resource, keyOf(namespace, name));
        return object !== undefined && isAsWanted(object, wanted) ? object : undefined;
      };
      return await waitFor(found, { timeoutMs: settleMs, intervalMs: pollMs }).catch(() => {
        throw new Error(`${resource.kind} ${name} is not ${JSON.stringify(wanted)}: ${explain(object, operator)}`);
      });
    },
    async vanishes(resource, namespace, name) {
      let object: KubeObject | undefined;
      const gone = async () => {
        object = await api.get(resource, keyOf(namespace, name));
        return object === undefined;
      };
      await waitFor(gone, { timeoutMs: settleMs, intervalMs: pollMs }).catch(() => {
        throw new Error(`${resource.kind} ${name} is still there: ${explain(object, operator)}`);
      });
    },
    async expectNothingLeft() {
      for (const resource of [snapshotGroups, snapshots, standbyMirrors, primaryVolumes]) {
        for (const namespace of namespaces)
          expect((await api.list<KubeObject>(resource, { namespace })).items).toEqual([]);
      }
      for (const agent of [a, b, ...others]) {
        expect((await agent.volumes()).map(({ volume }) => `${agent.node} ${volume}`)).toEqual([]);
        expect(await agent.poolContents()).toEqual([]);
      }
    },
  };

  const pools = [a, b, ...others].flatMap(({ node, pools }) =>
    Object.entries(pools).map(([name, directory]) => pool(node, name, directory)),
  );
  await rig.apply(...pools);
  for (const { node, pools } of [a, b, ...others]) {
    for (const name of Object.keys(pools)) {
      await rig.reaches(nodePools, undefined, `${node}-${name}`, { type: 'Ready', status: 'True' });
    }
  }
  return rig;
}

/** Whether the operator has said that about the object as it is now. */
function isAsWanted(object: ConditionedObject, wanted: WantedCondition): boolean {
  const { generation } = object.metadata;
  return (object.status?.conditions ?? []).some(
    ({ type, status, reason, observedGeneration = generation }) =>
      type === wanted.type &&
      status === wanted.status &&
      reason === (wanted.reason ?? reason) &&
      observedGeneration === generation,
  );
}

/** What an object says about the first condition of a type. */
export function messageOf(object: ConditionedObject, type: 'Ready' | 'DeletionBlocked'): string {
  return findCondition(object.status?.conditions, type)?.message ?? '';
}

function keyOf(namespace: string | undefined, name: string) {
  return namespace === undefined ? { name } : { namespace, name };
}

function explain(object: KubeObject | undefined, operator: OperatorProcess): string {
  const state = object === undefined ? 'it is not there' : JSON.stringify(Reflect.get(object, 'status'), null, 1);
  return `${state}\nthe operator's log:\n${operator.logTail()}`;
}
