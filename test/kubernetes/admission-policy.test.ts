import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { errorMessage } from '../../common/errors.ts';
import type { KubeApi } from '../../operator/kube/kube-api.ts';
import { primaryVolumes } from '../../operator/resources/primary-volume.ts';
import { type Manifest, renderManifests } from '../chart/support/helm.ts';
import { valueSets } from '../chart/support/value-sets.ts';
import { waitFor } from '../support/wait-for.ts';
import { hasAdmissionPolicies, installCrds } from './support/crds.ts';
import { kubeApiOf } from './support/kube-api-of.ts';
import { type Kubectl, kubectlOf, sharedControlPlane } from './support/kubectl.ts';
import { manifest, volume } from './support/manifests.ts';

const plane = inject('controlPlane');
const old = 'unavailable' in plane || hasAdmissionPolicies(plane.version) ? undefined : plane.version;
const namespace = 'agent-policy';
const agent = 'understudy-agent';

const everything = valueSets['everything that is off by default'];

const record = {
  revision: 7,
  epoch: 3,
  since: 3,
  node: 'policy-a',
  copy: 'origin',
  copies: [
    { name: 'one', state: 'InSync', epoch: 3 },
    { name: 'two', state: 'Outdated', epoch: 2 },
  ],
  divergent: [],
};
const status = { node: 'policy-a', epoch: 3, sizeBytes: 16 << 20, arbiter: record };

/** The chart with everything in it, applied for real, and its policy with the tokens that pods of its agents get. */
describe.skipIf('unavailable' in plane || old)(
  `the policy that confines agents${old ? ` (skipped: ${old} has no such policies)` : ''}`,
  () => {
    let admin: Kubectl;
    let onA: KubeApi;
    let onB: KubeApi;
    let directory: string;
    let applied: Manifest[];

    beforeAll(async () => {
      const cluster = sharedControlPlane();
      admin = kubectlOf(cluster);
      directory = await mkdtemp(join(tmpdir(), 'understudy-policy-'));
      await installCrds(admin, cluster.version);
      await admin.run(['create', 'namespace', namespace]);
      const kubeVersion = cluster.version.replace(/\+.*$/, '');
      const values = { ...everything, agent: { admissionPolicy: { enabled: true } } };
      applied = (await renderManifests(values, { namespace, kubeVersion })).filter(isOfThisCluster);
      await admin.run(['apply', '-f', '-'], manifest(...applied));
      onA = await agentOn('policy-a');
      onB = await agentOn('policy-b');
      await admin.run(['create', '-f', '-'], manifest(volume(namespace, 'data')));
      await restore();
      // A policy is in force some moments after it was made.
      const refused = async () => (await change(onB, { revision: 8 })) !== undefined || (await restore());
      await waitFor(refused, { timeoutMs: 60_000, intervalMs: 200 });
      await restore();
    });

    afterAll(async () => {
      await admin?.try(['delete', '--ignore-not-found', '--wait=false', '-f', '-'], manifest(...applied));
      for (const node of ['policy-a', 'policy-b']) await admin?.try(['delete', 'node', node]);
      await admin?.try(['delete', 'namespace', '--wait=false', namespace]);
      if (directory !== undefined) await rm(directory, { recursive: true });
    });

    test('is understood by the API server: it has nothing to warn of in its expressions', async () => {
      const read = async () => {
        const text = await admin.run(['get', 'validatingadmissionpolicy', agent, '-o', 'json']);
        return JSON.parse(text) as { metadata: { generation: number }; status?: { observedGeneration?: number } };
      };
      if (!sharedControlPlane().hasControllerManager) return;
      await waitFor(async () => (await read()).status?.observedGeneration === 1, { timeoutMs: 60_000 });
      expect((await read()).status).toMatchObject({ typeChecking: {} });
      expect(JSON.stringify((await read()).status)).not.toContain('expressionWarnings');
    });

    test('lets the agent of the primary say what a copy has become, one revision on', async () => {
      const lost = { name: 'one', state: 'Outdated', epoch: 3 };
      await expectTaken(onA, { revision: 8, copies: [lost, record.copies[1]] });
      await expectTaken(onA, { revision: 9, copies: [lost] });
      await expectTaken(onA, { revision: 10 });
      await restore();
    });

    test.each([
      ['an agent of another node', 'b', { revision: 8 }, 'the primary of this volume is not on'],
      ['that leaves the revision', 'a', { copies: [] }, 'one revision at a time'],
      ['that skips a revision', 'a', { revision: 9 }, 'one revision at a time'],
      ['that makes itself the primary', 'b', { revision: 8, node: 'policy-b' }, 'is not on'],
      ['that gives the primary away', 'a', { revision: 8, node: 'policy-b' }, 'but the states of copies'],
      ['that begins another epoch', 'a', { revision: 8, epoch: 4 }, 'but the states of copies'],
      ['that accepts a loss', 'a', { revision: 8, lossAccepted: true }, 'but the states of copies'],
      [
        'that speaks of another epoch',
        'a',
        { revision: 8, copies: [{ name: 'two', state: 'InSync', epoch: 2 }] },
        "what it is in the volume's epoch",
      ],
    ])('refuses %s', async (_, node, changes, message) => {
      expect(await change(node === 'a' ? onA : onB, changes)).toContain(message);
    });

    test('refuses an agent that writes anything else of the status, or takes it away', async () => {
      for (const other of [{ epoch: 4 }, { node: 'policy-b' }, { sizeBytes: null }, { arbiter: null }]) {
        const changes = { arbiter: { revision: 8 }, ...other };
        expect(await patch(onA, changes), JSON.stringify(other)).toContain('ValidatingAdmissionPolicy');
      }
    });

    test('is not about the operator, or an administrator', async () => {
      expect(await patch(kubeApiOf(sharedControlPlane()), { epoch: 4 })).toBeUndefined();
      await restore();
    });

    async function expectTaken(api: KubeApi, changes: object): Promise<void> {
      expect(await change(api, changes)).toBeUndefined();
    }

    function change(api: KubeApi, changes: object) {
      return patch(api, { arbiter: changes });
    }

    /** As an agent writes it. @returns why it was refused */
    async function patch(api: KubeApi, changes: object): Promise<string | undefined> {
      try {
        await api.patch(primaryVolumes, { namespace, name: 'data' }, { status: changes }, { subresource: 'status' });
        return undefined;
      } catch (error) {
        return errorMessage(error);
      }
    }

    /** As an administrator can, whom the policy is not about. */
    async function restore(): Promise<void> {
      const refused = await patch(kubeApiOf(sharedControlPlane()), status);
      if (refused !== undefined) throw new Error(refused);
    }

    /** The token of an agent's pod on that node, as its kubelet asks for it. */
    async function agentOn(node: string): Promise<KubeApi> {
      const pod = { name: `agent-${node}`, namespace };
      const containers = [{ name: 'agent', image: 'example.test/understudy' }];
      const spec = { nodeName: node, serviceAccountName: agent, containers };
      await admin.run(['create', '-f', '-'], manifest({ apiVersion: 'v1', kind: 'Node', metadata: { name: node } }));
      await admin.run(['create', '-f', '-'], manifest({ apiVersion: 'v1', kind: 'Pod', metadata: pod, spec }));
      const bound = ['--bound-object-kind=Pod', `--bound-object-name=${pod.name}`];
      const token = (await admin.run(['create', 'token', agent, '-n', namespace, ...bound])).trim();
      const { kubeconfig } = sharedControlPlane();
      const config = JSON.parse(await readFile(kubeconfig, 'utf8')) as { users: object[] };
      const path = join(directory, node);
      const [name] = config.users.map((user) => Reflect.get(user, 'name'));
      await writeFile(path, JSON.stringify({ ...config, users: [{ name, user: { token } }] }), { mode: 0o600 });
      return kubeApiOf({ kubeconfig: path });
    }
  },
);

/** The kinds of the Prometheus operator are not installed here. */
function isOfThisCluster({ apiVersion }: Manifest): boolean {
  return !apiVersion.startsWith('monitoring.coreos.com/');
}
