import { afterEach, expect, test } from 'vitest';
import { silentLog } from '../../common/log.ts';
import { staticAgentDirectory } from '../../operator/agent-client/agent-client.ts';
import { HttpAgentClient } from '../../operator/agent-client/http-agent-client.ts';
import { applyManifest } from '../../operator/kube/apply.ts';
import { InMemoryKubeApi } from '../../operator/kube/in-memory-kube-api.ts';
import { type Condition, findCondition } from '../../operator/resources/conditions.ts';
import type { KubeObject } from '../../operator/resources/kube-object.ts';
import type { Resource } from '../../operator/resources/resource.ts';
import { snapshots } from '../../operator/resources/snapshot.ts';
import { snapshotRestores } from '../../operator/resources/snapshot-restore.ts';
import { standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import { type Operator, startOperator } from '../../operator/start-operator.ts';
import { mirror, pool, snapshot, volume } from '../kubernetes/support/manifests.ts';
import { NbdTestClient } from '../support/nbd-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { TwoAgents } from './cluster.ts';

const mib = 1024 * 1024;
const timeoutMs = 90_000;

let agents: TwoAgents;
let operator: Operator;
const api = new InMemoryKubeApi();

afterEach(async () => {
  await operator?.stop();
  await agents?.remove();
});

function start(): void {
  operator = startOperator({
    api,
    log: silentLog,
    intervals: { transitionalMs: 50, idleMs: 200 },
    agents: staticAgentDirectory(
      [agents.a, agents.b].map(({ node, apiAddress, mirrorAddress }) => ({
        node,
        mirrorAddress,
        client: new HttpAgentClient({ node, url: `http://${apiAddress}`, readTimeoutMs: 2_000 }),
      })),
    ),
  });
}

type Conditioned = KubeObject & { readonly status?: { readonly conditions?: Condition[] | undefined } };

async function reaches<T extends Conditioned>(
  resource: Resource<T>,
  name: string,
  type: 'Ready' | 'InSync',
  reason?: string,
) {
  let last: unknown;
  return await waitFor(
    async () => {
      const object = await api.get(resource, { namespace: 'default', name });
      const condition = findCondition(object?.status?.conditions, type);
      last = condition;
      return (reason === undefined ? condition?.status === 'True' : condition?.reason === reason) && object;
    },
    { timeoutMs },
  ).catch(() => {
    throw new Error(`${name} is not ${reason ?? type}: ${JSON.stringify(last)}`);
  });
}

test('a restore goes on when the operator and the agent of the primary are killed in the middle of it', async () => {
  agents = await TwoAgents.start('none', undefined, 2 * mib);
  start();
  const pools = [agents.a, agents.b].flatMap(({ node, pools: of }) =>
    Object.entries(of).map(([name, directory]) => pool(node, name, directory)),
  );
  const buffer = { pool: 'buffer', capacity: '64Mi' };
  const objects = [
    ...pools,
    volume('default', 'data', { claim: false }),
    mirror('default', 'copy', 'data', { buffer, claim: false }),
  ];
  for (const object of objects) await applyManifest(api, JSON.stringify(object));
  await reaches(standbyMirrors, 'copy', 'InSync');
  const [primary] = await agents.a.volumes();
  const name = primary?.volume ?? '';
  const connect = () => NbdTestClient.connect(primary?.nbd ?? '', { exportName: name });
  const nbd = await connect();
  const good = Buffer.alloc(8 * mib, 1);
  for (let at = 0; at < good.length; at += mib) await nbd.write(at, good.subarray(at, at + mib));
  await applyManifest(api, JSON.stringify(snapshot('default', 'good', 'copy', { claim: false })));
  await reaches(snapshots, 'good', 'Ready');
  for (let at = 0; at < good.length; at += mib) await nbd.write(at, Buffer.alloc(mib, 2));
  await nbd.flush();
  nbd.close();
  await waitFor(async () => !(await agents.a.volumes())[0]?.attached, { timeoutMs });

  const order = { apiVersion: 'understudy.dev/v1alpha1', kind: 'SnapshotRestore', spec: { snapshot: 'good' } };
  await applyManifest(api, JSON.stringify({ ...order, metadata: { name: 'undo', namespace: 'default' } }));
  await reaches(snapshotRestores, 'undo', 'Ready', 'Restoring');
  await waitFor(async () => ((await agents.a.volumes())[0]?.restore?.writtenBytes ?? 0) >= mib, { timeoutMs });
  await operator.stop();
  await agents.a.kill();
  await agents.a.start();
  await expect(connect()).rejects.toThrow(/restore/);
  start();
  const done = await reaches(snapshotRestores, 'undo', 'Ready');
  expect(done.status).toMatchObject({ node: 'node-a', before: 'before-restore-undo', progress: { percent: 100 } });

  const after = await connect();
  expect((await after.read(0, good.length)).equals(good)).toBe(true);
  after.close();
  const [standby] = await agents.b.volumes();
  const kept = await reaches(snapshots, 'before-restore-undo', 'Ready');
  const reader = await NbdTestClient.connect(standby?.nbd ?? '', { exportName: `${name}@${kept.status?.snapshot}` });
  expect((await reader.read(0, good.length)).equals(Buffer.alloc(good.length, 2))).toBe(true);
  reader.close();
});
