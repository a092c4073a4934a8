import { beforeAll, describe, expect, inject, test } from 'vitest';
import type { KubeApi } from '../../operator/kube/kube-api.ts';
import { findCondition } from '../../operator/resources/conditions.ts';
import { type PrimaryVolumeStatus, primaryVolumes } from '../../operator/resources/primary-volume.ts';
import { kubeApiOf } from '../kubernetes/support/kube-api-of.ts';
import type { Kubectl } from '../kubernetes/support/kubectl.ts';
import { waitFor } from '../support/wait-for.ts';
import { rigOf } from './support/cluster.ts';
import { explainPods, kubectlIn, namespace, nodes, rolledOut, waitsFor } from './support/understudy.ts';

const cluster = inject('cluster');
const databases = 'databases';
const inNamespace = ['-n', databases];
const standby = 'standbymirror/data-postgresql-0-standby';
/** Longer than the node is missed for, its pod deleted, and another one started. */
const patienceMs = 300_000;

/** A chapter: it goes on with the database of the ones before, and leaves it on the other node. */
describe.skipIf('unavailable' in cluster)('the power of the node with the primary is cut', () => {
  let kubectl: Kubectl;
  let api: KubeApi;
  let rig: ReturnType<typeof rigOf>;
  /** By PostgreSQL, in the order in which it said so. */
  const acknowledged: number[] = [];
  let lastNumber = 0;

  beforeAll(() => {
    if ('unavailable' in cluster) return;
    [kubectl, api, rig] = [kubectlIn(cluster), kubeApiOf(cluster), rigOf(cluster.state)];
  });

  const sql = (statement: string) => [
    ...['exec', '--request-timeout=10s', ...inNamespace, 'postgresql-0', '--'],
    ...['psql', '-U', 'postgres', '-qtAc', statement],
  ];

  async function insertNext(): Promise<boolean> {
    lastNumber += 1;
    const number = lastNumber;
    const isAcknowledged = (await kubectl.try(sql(`insert into numbers values (${number})`))).status === 0;
    if (isAcknowledged) acknowledged.push(number);
    return isAcknowledged;
  }

  async function volumeStatus(): Promise<PrimaryVolumeStatus> {
    const volume = await api.get(primaryVolumes, { namespace: databases, name: 'data-postgresql-0' });
    if (volume?.status === undefined) throw new Error('PrimaryVolume data-postgresql-0 has no status');
    return volume.status;
  }

  async function waitForPrimaryOtherThan(lost: string): Promise<void> {
    const isThere = async () => {
      const { node, conditions } = await volumeStatus();
      return node !== lost && findCondition(conditions, 'Ready')?.status === 'True';
    };
    await waitFor(isThere, { timeoutMs: patienceMs, what: `another primary than that of ${lost}` });
  }

  async function waitForPodOn(node: string): Promise<void> {
    const where = ['get', ...inNamespace, 'pod/postgresql-0', '-o', 'jsonpath={.spec.nodeName} {.status.phase}'];
    const isThere = async () => (await kubectl.try(where)).stdout === `${node} Running`;
    await waitFor(isThere, { timeoutMs: patienceMs, intervalMs: 200 }).catch(async () => {
      throw new Error(`postgresql-0 does not run on ${node}\n${await explainPods(kubectl, databases)}`);
    });
  }

  /** When an operator on a node began to prepare the standby: the first thing that it does once it has decided. */
  async function decidedMs(node: string): Promise<number> {
    const find = ['get', 'pods', '-n', namespace, '-l', 'app.kubernetes.io/component=operator'];
    const byNode = `jsonpath={.items[?(@.spec.nodeName=="${node}")].metadata.name}`;
    const pods = (await kubectl.run([...find, '-o', byNode])).split(' ');
    const logs = await Promise.all(pods.map((pod) => kubectl.run(['logs', '-n', namespace, pod])));
    const lines = logs.flatMap((log) => log.split('\n')).filter((line) => line.includes('"prepare-volume begins"'));
    const times = lines.map((line) => Date.parse((JSON.parse(line) as { time: string }).time));
    if (times.length === 0) throw new Error(`none of the operators ${pods.join(', ')} has prepared a standby`);
    return Math.max(...times);
  }

  test('its pod goes on on the other node, with every acknowledged transaction', async () => {
    const failover = { policy: 'Automatic', after: '10s', evictPods: true };
    await kubectl.run(['patch', ...inNamespace, standby, '--type=merge', '-p', JSON.stringify({ spec: { failover } })]);
    await waitsFor(kubectl, ['--for=condition=InSync', standby, ...inNamespace]);
    await kubectl.run(sql('create table numbers (number integer primary key)'));
    const lost = (await volumeStatus()).node ?? '';
    const other = nodes.find((node) => node !== lost) ?? '';

    let isOff = false;
    const load = (async () => {
      while (!isOff) await insertNext();
    })();
    await waitFor(() => acknowledged.length >= 20, { timeoutMs: 60_000, what: '20 transactions' });
    const cutMs = Date.now();
    const seconds = (fromMs: number, toMs: number) => `${((toMs - fromMs) / 1000).toFixed(1)} s`;
    await cutPowerOf(lost);
    isOff = true;
    await waitForPrimaryOtherThan(lost);
    const readyMs = Date.now();
    await waitForPodOn(other);
    await waitFor(insertNext, { timeoutMs: patienceMs, what: 'the first new transaction' });
    const firstMs = Date.now();
    const preparedMs = await decidedMs(other);
    console.log(
      `power cut to decision ${seconds(cutMs, preparedMs)}, takeover ${readyMs - preparedMs} ms, ` +
        `power cut to first new transaction ${seconds(cutMs, firstMs)}`,
    );

    const found = (await kubectl.run(sql('select number from numbers'))).trim().split('\n').map(Number);
    expect(acknowledged.filter((number) => !found.includes(number))).toEqual([]);

    await powerOn(lost);
    await load;
    await rolledOut(kubectl, namespace, 'daemonset/understudy-agent', '300s');
    await waitsFor(kubectl, ['--for=condition=Protected', 'primaryvolume/data-postgresql-0', ...inNamespace], '300s');
    expect((await volumeStatus()).node).toBe(other);
  });

  /** Unplugged first: the kernel below goes on, and would tell everybody that connections have ended. */
  async function cutPowerOf(node: string): Promise<void> {
    await rig('partition', numberOf(node), 'on');
    await rig('node-stop', numberOf(node));
  }

  async function powerOn(node: string): Promise<void> {
    await rig('partition', numberOf(node), 'off');
    await rig('node-start', numberOf(node));
  }
});

/** The rig's, counted from 1. */
function numberOf(node: string): string {
  return String((nodes as readonly string[]).indexOf(node) + 1);
}
