import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pino } from 'pino';
import { parseAllDocuments } from 'yaml';
import { createLog } from '../../../common/logging.ts';
import { staticAgentDirectory } from '../../../operator/agent-client/agent-client.ts';
import { applyManifest } from '../../../operator/kube/apply.ts';
import { InMemoryKubeApi } from '../../../operator/kube/in-memory-kube-api.ts';
import { type Condition, isConditionTrue } from '../../../operator/resources/conditions.ts';
import { scheduleLabel } from '../../../operator/resources/group.ts';
import { type CustomObject, keyOf } from '../../../operator/resources/kube-object.ts';
import { nodePools } from '../../../operator/resources/node-pool.ts';
import { primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import { apiVersionOf, type CustomResource } from '../../../operator/resources/resource.ts';
import { type Snapshot, snapshots } from '../../../operator/resources/snapshot.ts';
import { snapshotRestores } from '../../../operator/resources/snapshot-restore.ts';
import { snapshotSchedules } from '../../../operator/resources/snapshot-schedule.ts';
import { standbyMirrors } from '../../../operator/resources/standby-mirror.ts';
import { startOperator } from '../../../operator/start-operator.ts';
import { KubeApiServer } from '../../../test/support/kube-api-server.ts';
import { waitFor } from '../../../test/support/wait-for.ts';
import type { DemoAgent } from './agent.ts';
import type { DemoNode } from './command.ts';
import type { Stage } from './stage.ts';

const quickstart = resolve(import.meta.dirname, '../../../examples/quickstart');
const timeoutMs = 60_000;
const scheduleName = 'each-minute';

/** A snapshot as the agents know it. */
export interface TakenSnapshot {
  node: DemoNode;
  volume: string;
  snapshot: string;
}

/** One that a schedule has made. */
export interface ScheduledSnapshot {
  name: string;
  /** Milliseconds since 1970. */
  takenAtMs: number;
}

type Conditioned = { conditions?: Condition[] | undefined };

/** The operator in this process, with a Kubernetes API in memory in place of a cluster. */
export class DemoKubernetes {
  readonly #api: InMemoryKubeApi;
  readonly #stage: Stage;
  /** For the agents, whose arbiter it is. */
  readonly kubeconfig: string;
  #volume = '';

  /** The API alone: agents ask it before there is an operator. */
  static async open(stage: Stage): Promise<DemoKubernetes> {
    const api = new InMemoryKubeApi();
    const server = await KubeApiServer.start(api);
    stage.cleanup.add('end the Kubernetes API', () => server.stop());
    const kubeconfig = join(stage.folder, 'kubeconfig');
    writeFileSync(kubeconfig, server.kubeconfig());
    return new DemoKubernetes(stage, api, kubeconfig);
  }

  private constructor(stage: Stage, api: InMemoryKubeApi, kubeconfig: string) {
    this.#stage = stage;
    this.#api = api;
    this.kubeconfig = kubeconfig;
  }

  /** Starts the operator, and applies the manifests of the quick start. */
  async start(agents: readonly DemoAgent[]): Promise<void> {
    const { folder, cleanup } = this.#stage;
    const operator = startOperator({
      api: this.#api,
      agents: staticAgentDirectory(agents),
      log: createLog('info', pino.destination({ dest: join(folder, 'operator.log'), sync: true })),
      intervals: { transitionalMs: 100, idleMs: 1_000 },
    });
    cleanup.add('end the operator', () => operator.stop());
    await this.#applyQuickstart();
  }

  /** The volume's name at the agents. */
  get volume(): string {
    return this.#volume;
  }

  async #applyQuickstart(): Promise<void> {
    await this.#apply(manifests().filter(({ kind }) => kind !== snapshots.kind));
    await this.#until(nodePools, 'Ready');
    const volume = await this.#until(primaryVolumes, 'Ready');
    await this.#until(standbyMirrors, 'InSync');
    this.#volume = volume.status?.volume ?? '';
  }

  async #apply(objects: readonly Manifest[]): Promise<void> {
    for (const { text } of objects) {
      const applied = await applyManifest(this.#api, text);
      for (const { kind, name, outcome } of applied) this.#stage.report.note(`${kind}/${name} ${outcome}`);
    }
  }

  /** Applies the Snapshot of the quick start and waits until it can be read. */
  async takeSnapshot(): Promise<TakenSnapshot> {
    await this.#apply(manifests().filter(({ kind }) => kind === snapshots.kind));
    const { status } = await this.#until(snapshots, 'Ready', 'data-before-upgrade');
    this.#stage.report.note(`taken at ${status?.takenAt}, on ${status?.node}, consistency: ${status?.consistency}`);
    return { node: status?.node as DemoNode, volume: status?.volume ?? '', snapshot: status?.snapshot ?? '' };
  }

  /** Applies a schedule that makes a snapshot at each full minute, and keeps three. */
  async scheduleEachMinute(): Promise<void> {
    const template = { source: { mirror: 'data-standby' }, claim: false };
    const spec = { cron: '* * * * *', template, retention: { keepLast: 3 } };
    await this.#apply([manifestOf(snapshotSchedules, scheduleName, spec)]);
    const { status } = await this.#until(snapshotSchedules, 'Ready');
    this.#stage.report.note(`the first one is due at ${status?.nextScheduleTime}`);
  }

  /** The newest one of the schedule; the first one is waited for. */
  async newestScheduled(): Promise<ScheduledSnapshot> {
    const newest = async () => {
      const { items } = await this.#api.list(snapshots, { labelSelector: `${scheduleLabel}=${scheduleName}` });
      const ready = items.filter(({ status }) => isConditionTrue(status?.conditions, 'Ready'));
      return ready.sort((a, b) => takenAtMs(a) - takenAtMs(b)).at(-1);
    };
    const found = await waitFor(newest, { timeoutMs: 90_000, what: 'a snapshot of the schedule' });
    return { name: found.metadata.name, takenAtMs: takenAtMs(found) };
  }

  /** Puts the volume back, in place; returns the name of the Snapshot that keeps what was there. */
  async restore(snapshot: string): Promise<string> {
    await this.#apply([manifestOf(snapshotRestores, 'undo', { snapshot })]);
    const { status } = await this.#until(snapshotRestores, 'Ready');
    return status?.before ?? '';
  }

  /** From now on the standby takes over when its primary is lost for two seconds. */
  async failOverAutomatically(): Promise<void> {
    const failover = { policy: 'Automatic', after: '2s' };
    for (const { metadata } of (await this.#api.list(standbyMirrors)).items)
      await this.#api.patch(standbyMirrors, keyOf({ metadata }), { spec: { failover } });
    this.#stage.report.note(`StandbyMirror: failover ${JSON.stringify(failover)}`);
    await this.#until(standbyMirrors, 'FailoverReady');
  }

  /** Waits until this node has the primary, and that is there; returns what the status says. */
  async primaryOn(node: DemoNode): Promise<string> {
    const { status } = await waitFor(
      async () => {
        const { items } = await this.#api.list(primaryVolumes);
        return items.find(({ status: of }) => of?.node === node && isConditionTrue(of.conditions, 'Ready'));
      },
      { timeoutMs, what: `the primary on ${node}` },
    );
    return `status.node ${status?.node}, epoch ${status?.epoch}`;
  }

  /** Waits until the record has another copy than the primary's in sync, in the epoch that it is in. */
  async protectedAgain(): Promise<string> {
    return waitFor(
      async () => {
        const record = (await this.#api.list(primaryVolumes)).items[0]?.status?.arbiter;
        const copy = record?.copies.find(({ state, epoch }) => state === 'InSync' && epoch === record.epoch);
        return copy && `copy ${copy.name} is in sync in epoch ${copy.epoch}`;
      },
      { timeoutMs, what: 'the old primary to be in sync' },
    );
  }

  /** Waits until every object of a kind, or the one of that name, has a condition that is True, and returns the first. */
  async #until<Spec, Status extends Conditioned>(
    resource: CustomResource<Spec, Status>,
    type: Condition['type'],
    name?: string,
  ): Promise<CustomObject<Spec, Status>> {
    let last: readonly CustomObject<Spec, Status>[] = [];
    try {
      await waitFor(
        async () => {
          const { items } = await this.#api.list(resource);
          last = items.filter(({ metadata }) => metadata.name === (name ?? metadata.name));
          return last.length > 0 && last.every(({ status }) => isConditionTrue(status?.conditions, type as 'Ready'));
        },
        { timeoutMs },
      );
    } catch {
      const conditions = last.map(({ metadata, status }) => `${metadata.name}: ${JSON.stringify(status?.conditions)}`);
      throw new Error(`${resource.kind} not ${type} after ${timeoutMs / 1000} s: ${conditions.join('; ')}`);
    }
    const [first] = last;
    if (first === undefined) throw new Error(`there is no ${resource.kind}`);
    return first;
  }
}

function takenAtMs({ status }: Snapshot): number {
  return Date.parse(status?.takenAt ?? '');
}

function manifestOf<Spec, Status>(resource: CustomResource<Spec, Status>, name: string, spec: object): Manifest {
  const { kind } = resource;
  return { kind, text: JSON.stringify({ apiVersion: apiVersionOf(resource), kind, metadata: { name }, spec }) };
}

interface Manifest {
  kind: string;
  text: string;
}

/** The documents of the quick start, in order. */
function manifests(): Manifest[] {
  const files = readdirSync(quickstart).filter((name) => name.endsWith('.yaml'));
  return files.sort().flatMap((name) =>
    parseAllDocuments(readFileSync(join(quickstart, name), 'utf8')).map((document) => ({
      kind: String(document.get('kind')),
      text: document.toString(),
    })),
  );
}
