import { afterAll, beforeAll, expect, test } from 'vitest';
import { silentLog } from '../../common/log.ts';
import { staticAgentDirectory } from '../../operator/agent-client/agent-client.ts';
import { HttpAgentClient } from '../../operator/agent-client/http-agent-client.ts';
import { applyManifest } from '../../operator/kube/apply.ts';
import { InMemoryKubeApi } from '../../operator/kube/in-memory-kube-api.ts';
import { isConditionTrue, kubeTime } from '../../operator/resources/conditions.ts';
import { snapshots } from '../../operator/resources/snapshot.ts';
import { snapshotSchedules } from '../../operator/resources/snapshot-schedule.ts';
import { standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import { type Operator, startOperator } from '../../operator/start-operator.ts';
import { mirror as mirrorOf, pool, volume as volumeOf } from '../kubernetes/support/manifests.ts';
import { JumpingClock } from '../support/jumping-clock.ts';
import { NbdTestClient } from '../support/nbd-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { TwoAgents } from './cluster.ts';

const sizeBytes = 4 * 1024 * 1024;
const chunkBytes = 64 * 1024;
const quarterMs = 15 * 60_000;
const noon = Date.UTC(2026, 10, 24, 12, 0);
const timeoutMs = 60_000;
const kept = 32;

let agents: TwoAgents;
let operator: Operator;
const clock = new JumpingClock(noon + 60_000);
const api = new InMemoryKubeApi({ clock });

beforeAll(async () => {
  agents = await TwoAgents.start();
  const nodes = [agents.a, agents.b];
  operator = startOperator({
    api,
    clock,
    agents: staticAgentDirectory(
      nodes.map(({ node, apiAddress, mirrorAddress }) => ({
        node,
        mirrorAddress,
        client: new HttpAgentClient({ node, url: `http://${apiAddress}` }),
      })),
    ),
    log: silentLog,
    intervals: { transitionalMs: 20, idleMs: 100 },
  });
  const buffer = { pool: 'buffer', capacity: '64Mi', maxSnapshots: kept + 1 };
  const objects = [
    ...nodes.flatMap(({ node, pools }) => Object.entries(pools).map(([name, path]) => pool(node, name, path))),
    volumeOf('default', 'data', { size: sizeBytes, claim: false }),
    mirrorOf('default', 'data-standby', 'data', { buffer, claim: false }),
    {
      apiVersion: 'understudy.dev/v1alpha1',
      kind: 'SnapshotSchedule',
      metadata: { name: 'often', namespace: 'default' },
      spec: {
        cron: '*/15 * * * *',
        template: { source: { mirror: 'data-standby' } },
        retention: { keepLast: kept },
      },
    },
  ];
  for (const object of objects) await applyManifest(api, JSON.stringify(object));
  await waitFor(
    async () => {
      const mirror = await api.get(standbyMirrors, { namespace: 'default', name: 'data-standby' });
      return isConditionTrue(mirror?.status?.conditions, 'InSync');
    },
    { timeoutMs },
  );
});

afterAll(async () => {
  await operator?.stop();
  await agents?.remove();
});

test('one snapshot each quarter of an hour for more than a day: 32 at any time, each exactly what was written before', async () => {
  const [primary] = await agents.a.volumes();
  const nbd = await NbdTestClient.connect(primary?.nbd ?? '', { exportName: primary?.volume ?? '' });
  const written = Buffer.alloc(sizeBytes);
  const expected = new Map<string, Buffer>();
  for (let quarter = 1; quarter <= 100; quarter += 1) {
    const offset = chunkBytes * ((quarter * 7) % (sizeBytes / chunkBytes));
    written.fill(quarter, offset, offset + chunkBytes);
    await nbd.write(offset, written.subarray(offset, offset + chunkBytes));
    clock.jumpTo(noon + quarter * quarterMs);
    const taken = await takenFor(quarter);
    expected.set(taken, Buffer.from(written));
    if (quarter >= kept) expect((await standbySnapshots()).length).toBeLessThanOrEqual(kept + 1);
  }
  nbd.close();

  await waitFor(async () => (await standbySnapshots()).length === kept, { timeoutMs, what: 'the last removal' });
  const { items } = await api.list(snapshots, {});
  expect(items).toHaveLength(kept);
  const [standby] = await agents.b.volumes();
  for (const { status } of items) {
    const exportName = `${status?.volume}@${status?.snapshot}`;
    const reader = await NbdTestClient.connect(standby?.nbd ?? '', { exportName });
    const content = await reader.read(0, sizeBytes);
    expect(content.equals(expected.get(status?.snapshot ?? '') ?? Buffer.alloc(0)), exportName).toBe(true);
    reader.close();
  }
});

/** Waits for the snapshot of a quarter of an hour, and returns its name at the agents. */
async function takenFor(quarter: number): Promise<string> {
  const time = kubeTime(noon + quarter * quarterMs);
  const name = await waitFor(
    async () => {
      const schedule = await api.get(snapshotSchedules, { namespace: 'default', name: 'often' });
      const entry = schedule?.status?.history?.find(({ scheduledAt }) => scheduledAt === time);
      return entry?.outcome === 'Taken' && schedule?.status?.kept === Math.min(quarter, kept) && entry.snapshot;
    },
    { timeoutMs, what: `the snapshot of ${time}` },
  );
  const snapshot = await api.get(snapshots, { namespace: 'default', name });
  return snapshot?.status?.snapshot ?? '';
}

async function standbySnapshots() {
  const [standby] = await agents.b.volumes();
  return standby?.snapshots ?? [];
}
