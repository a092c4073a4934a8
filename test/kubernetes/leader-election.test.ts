import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { nodePools } from '../../operator/resources/node-pool.ts';
import { leases } from '../../operator/resources/platform-kinds.ts';
import { waitFor } from '../support/wait-for.ts';
import { type AuditedChange, readAuditLog } from './control-plane/audit-log.ts';
import { installCrds } from './support/crds.ts';
import { kubeApiOf } from './support/kube-api-of.ts';
import { kubectlOf } from './support/kubectl.ts';
import { manifest, pool } from './support/manifests.ts';
import { type OperatorProcess, startOperator } from './support/operator-process.ts';

const plane = inject('controlPlane');
const lease = { namespace: 'default', name: 'understudy-operator' };
const poolNames = ['one', 'two', 'three', 'four'];
const timeoutMs = 60_000;

describe.skipIf('unavailable' in plane || plane.auditLog === undefined)('two replicas of the operator', () => {
  if ('unavailable' in plane) return;
  const { auditLog = '' } = plane;
  const api = kubeApiOf(plane);
  const kubectl = kubectlOf(plane);
  const replicas: { name: string; process: OperatorProcess }[] = [];
  let generation = 0;
  let load = true;
  let loading: Promise<void> | undefined;

  beforeAll(async () => {
    await installCrds(kubectl, plane.version);
    await kubectl.run(['apply', '-f', '-'], manifest(...poolNames.map((name) => pool('node-x', name, `/srv/${name}`))));
    for (const name of ['replica-a', 'replica-b']) {
      const leaderElection = { identity: name, leaseSeconds: 3 };
      const process = await startOperator(plane.kubeconfig, [], { ownNamespace: 'default', leaderElection });
      replicas.push({ name, process });
    }
    loading = keepChanging();
  });

  afterAll(async () => {
    load = false;
    await loading;
    for (const { process } of replicas) {
      process.signal('SIGCONT');
      await process.remove();
    }
    await kubectl.try(['delete', 'nodepools', '--all']);
    await kubectl.try(['delete', 'lease', lease.name]);
  });

  /** Whoever leads has to write the status of a pool after each of these. */
  async function keepChanging(): Promise<void> {
    while (load) {
      generation += 1;
      for (const name of poolNames) {
        const capacity = `${generation}Gi`;
        await api.patch(nodePools, { name: `node-x-${name}` }, { spec: { capacity } }).catch(() => {});
      }
    }
  }

  async function leader(except?: string) {
    return await waitFor(
      async () => {
        for (const replica of replicas) {
          if (replica.name === except) continue;
          const health = await replica.process.health();
          if (health?.ready && health.role === 'leader') return replica;
        }
        return undefined;
      },
      { timeoutMs, what: `a leader other than ${except}` },
    );
  }

  async function standsBy(name: string): Promise<void> {
    const process = replicas.find((replica) => replica.name === name)?.process;
    await waitFor(
      async () => {
        const health = await process?.health();
        return health?.ready && health.role === 'standby';
      },
      { timeoutMs, what: `${name} as a ready standby` },
    );
  }

  /** It reconciles: what is asked from now on is answered. */
  async function works(): Promise<void> {
    const before = generation;
    await waitFor(
      async () => {
        const pools = await Promise.all(poolNames.map((name) => api.get(nodePools, { name: `node-x-${name}` })));
        return pools.every((object) => (object?.status?.observedGeneration ?? 0) > before);
      },
      { timeoutMs, what: 'the status of every pool' },
    );
  }

  test('one leads, the other is ready to', async () => {
    const first = await leader();
    const other = replicas.find(({ name }) => name !== first.name);
    await standsBy(other?.name ?? '');
    await works();
    expect(await first.process.metrics()).toMatch(/^understudy_operator_leader 1$/m);
    expect(await other?.process.metrics()).toMatch(/^understudy_operator_leader 0$/m);
  });

  test('SIGKILL: the other one takes over', async () => {
    const first = await leader();
    await first.process.kill();
    await leader(first.name);
    await works();
    await first.process.start();
    await standsBy(first.name);
  });

  test('SIGSTOP: the other one takes over, and the one that stood still stands by afterwards', async () => {
    const first = await leader();
    first.process.signal('SIGSTOP');
    await leader(first.name);
    await works();
    first.process.signal('SIGCONT');
    await standsBy(first.name);
    await works();
  });

  test('SIGTERM: the lease is handed over', async () => {
    const first = await leader();
    await first.process.stop();
    const released = (await readAuditLog(auditLog)).findLast(({ resource }) => resource === 'leases');
    const held = (await api.get(leases, lease))?.spec?.holderIdentity;
    // The other one may have taken it already.
    expect([released?.holder, held]).not.toContain(first.name);
    await leader(first.name);
    await works();
    await first.process.start();
    await standsBy(first.name);
  });

  test('no write of one arrived while the other had the lease', async () => {
    load = false;
    await loading;
    const changes = (await readAuditLog(auditLog)).filter(({ status }) => status >= 200 && status < 300);
    const { conflicting, writes, terms } = judge(changes);
    expect(terms).toBeGreaterThanOrEqual(4);
    expect(writes['replica-a']).toBeGreaterThan(10);
    expect(writes['replica-b']).toBeGreaterThan(10);
    expect(conflicting).toEqual([]);
  });

  /** Compares who wrote with who had the lease when the write arrived. */
  function judge(changes: readonly AuditedChange[]) {
    const writerOf = ({ userAgent }: AuditedChange) => replicas.find(({ name }) => userAgent.includes(name))?.name;
    // Kubernetes has leases of its own, those of its API servers for instance.
    const takings = changes.filter(
      ({ resource, userAgent }) => resource === 'leases' && !userAgent.startsWith('kube-'),
    );
    const holderAt = (time: string) => takings.findLast(({ answered }) => answered <= time)?.holder;
    const writes: Record<string, number> = {};
    const conflicting: AuditedChange[] = [];
    for (const change of changes) {
      const writer = writerOf(change);
      if (writer === undefined || change.resource === 'leases') continue;
      writes[writer] = (writes[writer] ?? 0) + 1;
      if (holderAt(change.received) !== writer) conflicting.push(change);
    }
    const holders = takings.map(({ holder }) => holder).filter((holder) => holder !== '');
    return { conflicting, writes, terms: holders.filter((holder, index) => holder !== holders[index - 1]).length };
  }
});
