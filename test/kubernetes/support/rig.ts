import { randomBytes } from 'node:crypto';
import { expect } from 'vitest';
import { waitFor } from '../../support/wait-for.ts';
import { type AgentProcess, startAgent } from './agent-process.ts';
import { installCrds } from './crds.ts';
import { type Condition, condition, type Kubectl, type KubeObject, kubectlOf } from './kubectl.ts';
import { manifest, pool } from './manifests.ts';
import { type OperatorProcess, startOperator } from './operator-process.ts';

/** A cluster with Understudy running for it: an operator, and the agents of node-a and node-b. */
export interface Rig {
  kubectl: Kubectl;
  operator: OperatorProcess;
  agents: { a: AgentProcess; b: AgentProcess };
  /** Makes a namespace with a name of its own. */
  namespace(): Promise<string>;
  /** `kubectl apply` of these objects. */
  apply(...objects: object[]): Promise<void>;
  /** Waits until the object has the condition. @throws Error that tells the object's status and what the operator logged. */
  reaches(kind: string, name: string, namespace: string | undefined, wanted: WantedCondition): Promise<KubeObject>;
  /** Waits until the object is gone. @throws as `reaches` */
  vanishes(kind: string, name: string, namespace: string | undefined): Promise<void>;
  /** Nothing of ours is left in the namespaces made, nor at the agents, nor on their disks. */
  expectNothingLeft(): Promise<void>;
  /** Stops the processes and deletes what was made in the cluster. */
  remove(): Promise<void>;
}

export interface WantedCondition {
  type: string;
  status: Condition['status'];
  reason?: string;
}

const settleMs = 60_000;
const pollMs = 250;

export async function startRig(cluster: { kubectl: string; kubeconfig: string; version: string }): Promise<Rig> {
  const kubectl = kubectlOf(cluster);
  await installCrds(kubectl, cluster.version);
  const agents = { a: await startAgent('node-a'), b: await startAgent('node-b') };
  const everyAgent = Object.values(agents);
  const operator = await startOperator(cluster.kubeconfig, everyAgent);
  const namespaces: string[] = [];

  const rig: Rig = {
    kubectl,
    operator,
    agents,
    async namespace() {
      const name = `rig-${randomBytes(4).toString('hex')}`;
      await kubectl.run(['create', 'namespace', name]);
      namespaces.push(name);
      return name;
    },
    async apply(...objects) {
      await kubectl.run(['apply', '-f', '-'], manifest(...objects));
    },
    async reaches(kind, name, namespace, wanted) {
      let object: KubeObject | undefined;
      const found = async () => {
        object = await kubectl.get(kind, name, namespace);
        const now = condition(object, wanted.type);
        const isWanted = now?.status === wanted.status && (wanted.reason ?? now.reason) === now.reason;
        return isWanted ? object : undefined;
      };
      return await waitFor(found, { timeoutMs: settleMs, intervalMs: pollMs }).catch(() => {
        throw new Error(`${kind} ${name} did not become ${JSON.stringify(wanted)}: ${explain(object, operator)}`);
      });
    },
    async vanishes(kind, name, namespace) {
      let object: KubeObject | undefined;
      const gone = async () => {
        object = await kubectl.get(kind, name, namespace);
        return object === undefined;
      };
      await waitFor(gone, { timeoutMs: settleMs, intervalMs: pollMs }).catch(() => {
        throw new Error(`${kind} ${name} did not go: ${explain(object, operator)}`);
      });
    },
    async expectNothingLeft() {
      for (const kind of ['snapshots', 'standbymirrors', 'primaryvolumes']) {
        const left = (await kubectl.list(`${kind}.understudy.dev`)).filter(({ metadata }) =>
          namespaces.includes(metadata.namespace ?? ''),
        );
        expect(left.map(({ metadata }) => `${kind} ${metadata.namespace}/${metadata.name}`)).toEqual([]);
      }
      for (const agent of everyAgent) {
        expect((await agent.volumes()).map(({ volume }) => `${agent.node} ${volume}`)).toEqual([]);
        expect(await agent.poolContents()).toEqual([]);
      }
    },
    async remove() {
      await kubectl.try(['delete', 'namespace', '--wait=false', '--ignore-not-found', ...namespaces]);
      await kubectl.try(['delete', 'nodepools', '--all']);
      await operator.remove();
      await Promise.all(everyAgent.map((agent) => agent.remove()));
    },
  };

  const pools = everyAgent.flatMap(({ node, pools }) =>
    Object.entries(pools).map(([name, directory]) => pool(node, name, directory)),
  );
  await rig.apply(...pools);
  for (const { node } of everyAgent) {
    for (const name of ['main', 'buffer']) {
      await rig.reaches('nodepool', `${node}-${name}`, undefined, { type: 'Ready', status: 'True' });
    }
  }
  return rig;
}

function explain(object: KubeObject | undefined, operator: OperatorProcess): string {
  const state =
    object === undefined ? 'it is not there' : JSON.stringify({ ...object, metadata: object.metadata }, null, 1);
  return `${state}\nthe operator's log:\n${operator.logTail()}`;
}
