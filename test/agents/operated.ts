import { silentLog } from '../../common/log.ts';
import { staticAgentDirectory } from '../../operator/agent-client/agent-client.ts';
import { HttpAgentClient } from '../../operator/agent-client/http-agent-client.ts';
import { applyManifest } from '../../operator/kube/apply.ts';
import { InMemoryKubeApi } from '../../operator/kube/in-memory-kube-api.ts';
import { type Condition, type ConditionType, findCondition } from '../../operator/resources/conditions.ts';
import type { KubeObject } from '../../operator/resources/kube-object.ts';
import type { Resource } from '../../operator/resources/resource.ts';
import { standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import { type Operator, startOperator } from '../../operator/start-operator.ts';
import { mirror, pool, volume } from '../kubernetes/support/manifests.ts';
import { waitFor } from '../support/wait-for.ts';
import { TwoAgents } from './cluster.ts';

const timeoutMs = 90_000;

type Conditioned = KubeObject & { readonly status?: { readonly conditions?: Condition[] | undefined } };

/** Two agents and an operator, with a Kubernetes API in memory. */
export class OperatedAgents {
  readonly api = new InMemoryKubeApi();
  readonly agents: TwoAgents;
  #operator: Operator;

  private constructor(agents: TwoAgents) {
    this.agents = agents;
    this.#operator = this.#start();
  }

  /** With the NodePools of both. `bytesPerSecond` limits resyncs and restores. */
  static async start(bytesPerSecond?: number): Promise<OperatedAgents> {
    const started = new OperatedAgents(await TwoAgents.start('none', undefined, bytesPerSecond));
    for (const { node, pools } of [started.agents.a, started.agents.b])
      for (const [name, directory] of Object.entries(pools)) await started.apply(pool(node, name, directory));
    return started;
  }

  /** PrimaryVolume "data" on node-a with the StandbyMirror "copy" on node-b, in sync. */
  async mirrored(): Promise<void> {
    const buffer = { pool: 'buffer', capacity: '64Mi' };
    await this.apply(volume('default', 'data', { claim: false }));
    await this.apply(mirror('default', 'copy', 'data', { buffer, claim: false }));
    await this.reaches(standbyMirrors, 'copy', 'InSync');
  }

  async stop(): Promise<void> {
    await this.#operator.stop();
    await this.agents.remove();
  }

  async stopOperator(): Promise<void> {
    await this.#operator.stop();
  }

  startOperator(): void {
    this.#operator = this.#start();
  }

  async apply(object: object): Promise<void> {
    await applyManifest(this.api, JSON.stringify(object));
  }

  /** Waits until a condition is True, or has this reason. */
  async reaches<T extends Conditioned>(resource: Resource<T>, name: string, type: ConditionType, reason?: string) {
    let last: unknown;
    return await waitFor(
      async () => {
        const object = await this.api.get(resource, { namespace: 'default', name });
        const condition = findCondition(object?.status?.conditions, type);
        last = condition;
        return (reason === undefined ? condition?.status === 'True' : condition?.reason === reason) && object;
      },
      { timeoutMs },
    ).catch(() => {
      throw new Error(`${name} is not ${reason ?? type}: ${JSON.stringify(last)}`);
    });
  }

  #start(): Operator {
    const entries = [this.agents.a, this.agents.b].map(({ node, apiAddress, mirrorAddress }) => ({
      node,
      mirrorAddress,
      client: new HttpAgentClient({ node, url: `http://${apiAddress}`, readTimeoutMs: 2_000 }),
    }));
    return startOperator({
      api: this.api,
      log: silentLog,
      intervals: { transitionalMs: 50, idleMs: 200 },
      agents: staticAgentDirectory(entries),
    });
  }
}
