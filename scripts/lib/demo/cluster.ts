import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { DemoAgent } from './agent.ts';
import type { DemoNode } from './command.ts';
import { isRoot, makeDisk, removeLeftovers } from './disks.ts';
import { DemoKubernetes, type ScheduledSnapshot, type TakenSnapshot } from './kubernetes.ts';
import type { Stage } from './stage.ts';

export interface ClusterOptions {
  /** none: the agents mount nothing, their volumes are reached through NBD only. */
  attach: 'auto' | 'none';
}

/** Two nodes with an agent each, and the operator: everything of Understudy that runs in the demo. */
export class DemoCluster {
  readonly agents: Readonly<Record<DemoNode, DemoAgent>>;
  readonly #stage: Stage;
  readonly #kubernetes: DemoKubernetes;

  /** Starts it and applies the manifests of the quick start, until the mirror is in sync. */
  static async start(stage: Stage, options: ClusterOptions): Promise<DemoCluster> {
    const { report } = stage;
    const kubernetes = await DemoKubernetes.open(stage);
    const { kubeconfig } = kubernetes;
    const agents = await report.step(
      'Two nodes, each with a disk for volumes, one for snapshots, and an agent',
      async () => {
        const [first, second] = await Promise.all([
          startNode(stage, 'node-a', { ...options, kubeconfig }),
          startNode(stage, 'node-b', { ...options, kubeconfig }),
        ]);
        return { 'node-a': first, 'node-b': second };
      },
    );
    await report.step('The operator, on a Kubernetes API in memory; examples/quickstart/ is applied', () =>
      kubernetes.start(Object.values(agents)),
    );
    return new DemoCluster(stage, agents, kubernetes);
  }

  private constructor(stage: Stage, agents: Record<DemoNode, DemoAgent>, kubernetes: DemoKubernetes) {
    this.#stage = stage;
    this.agents = agents;
    this.#kubernetes = kubernetes;
  }

  /** The volume's name at the agents. */
  get volume(): string {
    return this.#kubernetes.volume;
  }

  /** Where the volume is mounted on a node. */
  mountPoint(node: DemoNode): string {
    return join(this.#stage.folder, node, 'volume');
  }

  /** Mounts the volume on the node of its primary. */
  async mount(node: DemoNode, options: { format: boolean }): Promise<void> {
    const { report, cleanup } = this.#stage;
    const agent = this.agents[node];
    const target = this.mountPoint(node);
    mkdirSync(target, { recursive: true });
    const request = { target, fsType: 'ext4', format: options.format };
    const { device } = await agent.mountVolume(this.volume, 'demo', request);
    cleanup.add(`unmount ${target}`, () => agent.isRunning && agent.unmountVolume(this.volume, 'demo'));
    report.note(`PUT …/mounts/demo at ${node}: ${device} on ${target}${options.format ? ', formatted first' : ''}`);
  }

  async unmount(node: DemoNode): Promise<void> {
    await this.agents[node].unmountVolume(this.volume, 'demo');
  }

  takeSnapshot(): Promise<TakenSnapshot> {
    return this.#kubernetes.takeSnapshot();
  }

  /** Mounts a snapshot read-only on the node that holds it, and returns where. */
  async mountSnapshot({ node, volume, snapshot }: TakenSnapshot): Promise<string> {
    const { report, cleanup, folder } = this.#stage;
    const agent = this.agents[node];
    const target = join(folder, node, 'snapshot');
    mkdirSync(target, { recursive: true });
    const { device } = await agent.mountSnapshot(volume, snapshot, 'backup', target);
    cleanup.add(`unmount ${target}`, () => agent.isRunning && agent.unmountSnapshot(volume, snapshot, 'backup'));
    report.note(`PUT …/snapshots/…/mounts/backup at ${node}: ${device} on ${target}, read-only`);
    return target;
  }

  async unmountSnapshot({ node, volume, snapshot }: TakenSnapshot): Promise<void> {
    await this.agents[node].unmountSnapshot(volume, snapshot, 'backup');
  }

  /** See DemoKubernetes. */
  scheduleEachMinute(): Promise<void> {
    return this.#kubernetes.scheduleEachMinute();
  }

  newestScheduled(): Promise<ScheduledSnapshot> {
    return this.#kubernetes.newestScheduled();
  }

  restore(snapshot: string): Promise<string> {
    return this.#kubernetes.restore(snapshot);
  }

  failOverAutomatically(): Promise<void> {
    return this.#kubernetes.failOverAutomatically();
  }

  primaryOn(node: DemoNode): Promise<string> {
    return this.#kubernetes.primaryOn(node);
  }

  /** The agent that was killed is started again; its copy becomes a standby and is brought in sync. */
  async bringBack(node: DemoNode): Promise<string> {
    await this.agents[node].restart();
    this.#stage.report.note(`the agent of ${node} runs again, process ${this.agents[node].pid}`);
    return this.#kubernetes.protectedAgain();
  }

  /** NBD addresses of the live volume and of a snapshot, for libnbd's tools. */
  async liveExport(node: DemoNode): Promise<string> {
    return this.#exportOf(node, this.volume);
  }

  async snapshotExport({ node, volume, snapshot }: TakenSnapshot): Promise<string> {
    return this.#exportOf(node, `${volume}@${snapshot}`);
  }

  async #exportOf(node: DemoNode, name: string): Promise<string> {
    const view = await this.agents[node].client.getVolume(this.volume);
    if (view === undefined) throw new Error(`the agent of ${node} has no copy of ${this.volume}`);
    return `nbd+unix:///${encodeURIComponent(name)}?socket=${view.nbd}`;
  }

  /** How to look around while it runs. */
  async describe(): Promise<string> {
    const agent = this.agents['node-b'];
    return [
      `curl -s ${agent.url}/v1/volumes`,
      `curl -s ${agent.url}/v1/mounts`,
      `nbdinfo '${await this.liveExport('node-b')}'`,
      `tail -f ${agent.logFile}`,
    ].join('\n');
  }
}

async function startNode(
  stage: Stage,
  node: DemoNode,
  options: ClusterOptions & { kubeconfig: string },
): Promise<DemoAgent> {
  const { report, cleanup } = stage;
  const folder = join(stage.folder, node);
  mkdirSync(folder);
  const [main, buffer] = await Promise.all([makeDisk(folder, 'main', cleanup), makeDisk(folder, 'buffer', cleanup)]);
  const agent = await DemoAgent.start({ node, folder, pools: { main, buffer }, ...options });
  cleanup.add(`end the agent of ${node}`, () => endAgent(agent, folder));
  await agent.ready();
  report.note(`${node}: ${agent.url}, process ${agent.pid}`);
  return agent;
}

/** Ends an agent, and undoes what is left if it had been killed. */
async function endAgent(agent: DemoAgent, folder: string): Promise<void> {
  await agent.end();
  if (isRoot) await removeLeftovers(folder);
}
