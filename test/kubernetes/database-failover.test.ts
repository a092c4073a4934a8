/**
 * A database on a mirrored volume, whose node is taken away in all ways that the network and processes know, with a real API
 * server for an arbiter. Each transaction that was ever acknowledged, by whichever node, is remembered outside; the next
 * primary must have all of them, and what the old one acknowledges when it is back, too: so it can acknowledge none.
 */
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import type { KubeApi } from '../../operator/kube/kube-api.ts';
import { findCondition } from '../../operator/resources/conditions.ts';
import { primaryVolumes } from '../../operator/resources/primary-volume.ts';
import { call } from '../agents/cluster.ts';
import { mountingImpossible } from '../support/mount-host.ts';
import { findPostgres, PostgresServer } from '../support/postgres.ts';
import { waitFor } from '../support/wait-for.ts';
import { checkSeats } from '../workloads/seat-reservation/checker.ts';
import { type Sale, SeatLoad } from '../workloads/seat-reservation/load.ts';
import { createSeats, type SeatPlan } from '../workloads/seat-reservation/schema.ts';
import { installCrds } from './support/crds.ts';
import { kubeApiOf } from './support/kube-api-of.ts';
import { type Kubectl, kubectlOf, sharedControlPlane } from './support/kubectl.ts';
import { manifest, mirror, pool, volume } from './support/manifests.ts';
import { type OperatorProcess, startOperator } from './support/operator-process.ts';
import { deafen, isolate, mend, type RemoteNode, startRemoteNode } from './support/remote-node.ts';

const plane = inject('controlPlane');
const impossible =
  'unavailable' in plane
    ? plane.unavailable
    : ((await mountingImpossible()) ?? (findPostgres() === undefined ? 'PostgreSQL is not installed' : undefined));

/** How often each fault comes; the short run has only the one in which the old primary lives on, and is heard. */
const rounds = Number(process.env.UNDERSTUDY_DATABASE_FAILOVER_ROUNDS ?? 0);
const plan: SeatPlan = { flights: 100, seatsPerFlight: 200, archiveRows: 500 };
/** Numbers between the transactions of two loads, so that one that goes on shows. */
const gap = 200;
const salesPerRound = 40;
const patienceMs = 120_000;
const namespace = `database-${process.pid}`;

type Fault = 'cut in both directions' | 'hears nobody, is heard' | 'SIGKILL' | 'SIGSTOP';
const faults: readonly Fault[] = ['hears nobody, is heard', 'SIGSTOP', 'cut in both directions', 'SIGKILL'];
const planned = rounds === 0 ? faults.slice(0, 1) : Array.from({ length: rounds }, () => faults).flat();

/** A node with the database that runs there while it has the primary. */
interface Site {
  readonly node: RemoteNode;
  readonly target: string;
  readonly database: PostgresServer;
}

describe.skipIf(impossible !== undefined)(
  `a database whose node is lost (${impossible ?? 'PostgreSQL on ext4'})`,
  () => {
    let kubectl: Kubectl;
    let api: KubeApi;
    let operator: OperatorProcess;
    let folder: string;
    let sites: [Site, Site];
    /** Of all loads, in the order in which they were acknowledged. */
    const sales: Sale[] = [];
    let nextTransaction = 1;

    beforeAll(async () => {
      const cluster = sharedControlPlane();
      [kubectl, api] = [kubectlOf(cluster), kubeApiOf(cluster)];
      await installCrds(kubectl, cluster.version);
      folder = mkdtempSync(join(tmpdir(), 'database-'));
      // PostgreSQL runs as a user of its own.
      chmodSync(folder, 0o755);
      sites = await Promise.all([siteOn('node-a', cluster.kubeconfig), siteOn('node-b', cluster.kubeconfig)]);
      const nodes = sites.map(({ node }) => node);
      operator = await startOperator(
        cluster.kubeconfig,
        nodes.map(({ reached }) => reached),
      );
      await kubectl.run(['create', 'namespace', namespace]);
      const pools = nodes.map(({ agent }) => pool(agent.node, 'main', agent.pools.main ?? ''));
      const failover = { policy: 'Automatic', after: '2s' };
      const spec = { failover, buffer: undefined };
      const objects = [volume(namespace, 'data', { size: '384Mi' }), mirror(namespace, 'standby', 'data', spec)];
      await kubectl.run(['apply', '-f', '-'], manifest(...pools, ...objects));
      await inSync('standby');
      await mount(sites[0], { format: true });
      await sites[0].database.initialise();
      await sites[0].database.start();
      const client = await sites[0].database.connect();
      await createSeats(client, plan);
      await client.end();
    });

    afterAll(async () => {
      for (const site of sites ?? []) {
        mend(site.node);
        site.node.agent.signal('SIGCONT');
        await site.database.kill();
        await call(site.node.agent, 'DELETE', await mountPath()).catch(() => undefined);
      }
      await operator?.remove();
      for (const site of sites ?? []) await site.node.remove();
      await kubectl?.try(['delete', 'namespace', '--wait=false', namespace]);
      await kubectl?.try(['delete', 'nodepools', '--all']);
      rmSync(folder, { recursive: true, force: true });
    });

    async function siteOn(name: string, kubeconfig: string): Promise<Site> {
      const node = await startRemoteNode(name, kubeconfig);
      const [target, socketDirectory] = [join(folder, name), join(folder, `${name}.socket`)];
      mkdirSync(socketDirectory);
      const dataDirectory = join(target, 'postgresql');
      const logFile = join(folder, `${name}.log`);
      return { node, target, database: new PostgresServer({ dataDirectory, socketDirectory, logFile }) };
    }

    const statusOf = async () => (await api.get(primaryVolumes, { namespace, name: 'data' }))?.status;
    const mountPath = async () => `/v1/volumes/${(await statusOf())?.volume}/mounts/db`;

    /** The record has the copy in sync in its own epoch. */
    async function inSync(copy: string): Promise<void> {
      const found = async () => {
        const record = (await statusOf())?.arbiter;
        return record?.copies.some(
          (each) => each.name === copy && each.state === 'InSync' && each.epoch === record.epoch,
        );
      };
      await waitFor(found, { timeoutMs: patienceMs, what: `copy ${copy} to be in sync` });
    }

    async function mount({ node, target }: Site, options: { format?: boolean } = {}): Promise<void> {
      let answer: unknown;
      const mounted = async () => {
        const { status, body } = await call(node.agent, 'PUT', await mountPath(), { target, ...options });
        answer = body;
        return status < 300;
      };
      await waitFor(mounted, { timeoutMs: patienceMs }).catch(() => {
        throw new Error(`${node.agent.node} has not mounted the volume, and answers ${JSON.stringify(answer)}`);
      });
    }

    async function primaryOn({ node }: Site): Promise<void> {
      const isThere = async () => {
        const status = await statusOf();
        return status?.node === node.agent.node && findCondition(status.conditions, 'Ready')?.status === 'True';
      };
      await waitFor(isThere, { timeoutMs: patienceMs, what: `a primary on ${node.agent.node}` });
    }

    async function startLoad({ database }: Site): Promise<SeatLoad> {
      const load = new SeatLoad(plan, nextTransaction);
      await load.start(() => database.connect(), 3);
      return load;
    }

    async function sells(load: SeatLoad): Promise<void> {
      const wanted = load.sales.length + salesPerRound;
      await waitFor(() => load.sales.length >= wanted || load.failure, { timeoutMs: patienceMs, what: 'sales' });
      expect(load.failure).toBeUndefined();
    }

    /** The database of the site is whole, and has every sale that any load was told of. */
    async function hasAll({ database }: Site, ...loads: readonly SeatLoad[]): Promise<void> {
      const client = await database.connect();
      const all = [...sales, ...loads.flatMap((load) => load.sales)];
      const holds = { atMs: 0, acknowledged: all.length, nextTransaction: 0 };
      const { problems } = await checkSeats(client, { plan, sales: all, holds });
      await client.end();
      expect(problems).toEqual([]);
    }

    async function strike(fault: Fault, { node, database }: Site, other: Site): Promise<void> {
      if (fault === 'cut in both directions') isolate(node, other.node);
      if (fault === 'hears nobody, is heard') deafen(node, other.node);
      if (fault === 'SIGSTOP') node.agent.signal('SIGSTOP');
      if (fault === 'SIGKILL') await Promise.all([node.agent.kill(), database.kill()]);
    }

    /** The old primary is back, with everything that it still has to say, and knows that it is none. */
    async function returns(fault: Fault, { node }: Site): Promise<void> {
      mend(sites[0].node, sites[1].node);
      if (fault === 'SIGSTOP') node.agent.signal('SIGCONT');
      if (fault === 'SIGKILL') await node.agent.start();
      const knows = async () => {
        const [view] = await node.agent.volumes();
        return view?.state === 'Fenced' || view?.role === 'standby';
      };
      await waitFor(knows, { timeoutMs: patienceMs, what: `${node.agent.node} to be fenced` });
    }

    /** Nobody uses the copy any more; it becomes a standby. */
    async function leave({ node, database }: Site, copy: string): Promise<void> {
      await database.kill();
      const gone = async () => (await call(node.agent, 'DELETE', await mountPath())).status < 300;
      await waitFor(gone, { timeoutMs: patienceMs, what: `the mount on ${node.agent.node} to go` });
      await inSync(copy);
    }

    test.each(planned)(
      '%s: every acknowledged transaction is there, and none is acknowledged that is not',
      async (fault) => {
        const at = (await statusOf())?.node === 'node-a' ? 0 : 1;
        const [old, next] = at === 0 ? sites : [sites[1], sites[0]];
        const before = (await statusOf())?.arbiter;
        const load = await startLoad(old);
        await sells(load);
        await strike(fault, old, next);
        await primaryOn(next);
        await mount(next);
        await next.database.removeForeignLock();
        await next.database.start();
        await hasAll(next, load);
        nextTransaction = load.mark().nextTransaction + gap;
        const successor = await startLoad(next);
        await sells(successor);

        await returns(fault, old);
        await sells(successor);
        await successor.stop();
        await hasAll(next, load, successor);
        await leave(old, before?.copy ?? '');
        await load.stop();
        sales.push(...load.sales, ...successor.sales);
        await hasAll(next);
        nextTransaction = successor.mark().nextTransaction + gap;
      },
      600_000,
    );
  },
);
