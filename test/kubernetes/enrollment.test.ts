import { X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { makeCertificateRequest } from '../../agent/enrollment/certificate-request.ts';
import { requestCertificate } from '../../agent/enrollment/enrollment-client.ts';
import { findCondition } from '../../operator/resources/conditions.ts';
import { nodePools } from '../../operator/resources/node-pool.ts';
import { agentPods, configMaps } from '../../operator/resources/platform-kinds.ts';
import { standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import { waitFor } from '../support/wait-for.ts';
import { freePorts } from './control-plane/ports.ts';
import { installCrds } from './support/crds.ts';
import { type EnrollingAgent, startEnrollingAgent } from './support/enrolling-agent.ts';
import { kubeApiOf } from './support/kube-api-of.ts';
import { kubectlOf } from './support/kubectl.ts';
import { manifest, mirror, pool, volume } from './support/manifests.ts';
import { type OperatorProcess, startOperator } from './support/operator-process.ts';

const plane = inject('controlPlane');
const timeoutMs = 90_000;
const namespace = 'understudy-enrollment';
const hosts = { 'node-a': '127.0.0.1', 'node-b': '127.0.0.2' };
/** Mirrors have a network of their own, of which Kubernetes knows nothing. */
const mirrorNetwork = '127.0.1.0/24';
const mirrorHosts: Readonly<Record<string, string>> = { 'node-a': '127.0.1.1', 'node-b': '127.0.1.2' };
const labels = { 'app.kubernetes.io/component': 'agent' };

describe.skipIf('unavailable' in plane)('agents that get their certificates from the operator', () => {
  if ('unavailable' in plane) return;
  const api = kubeApiOf(plane);
  const kubectl = kubectlOf(plane);
  const agents: EnrollingAgent[] = [];
  let operator: OperatorProcess | undefined;
  let url = '';

  beforeAll(async () => {
    await installCrds(kubectl, plane.version);
    await kubectl.run(['create', 'namespace', namespace]);
    await kubectl.run(['create', 'serviceaccount', '-n', namespace, 'understudy-agent']);
    const [enrollmentPort = 0, apiPort = 0, mirrorPort = 0] = await freePorts(3);
    url = `https://127.0.0.1:${enrollmentPort}`;
    operator = await startOperator(plane.kubeconfig, [], {
      ownNamespace: namespace,
      leaderElection: { leaseSeconds: 5 },
      certificates: { life: '30s' },
      enrollment: { listen: `127.0.0.1:${enrollmentPort}` },
      agentPods: { apiPort, mirrorPort, mirrorNetwork },
    });
    for (const [node, host] of Object.entries(hosts)) {
      await kubectl.run(['apply', '-f', '-'], manifest({ apiVersion: 'v1', kind: 'Node', metadata: { name: node } }));
      await makePod(node, host);
      const mirrorHost = mirrorHosts[node] ?? '';
      agents.push(await startEnrollingAgent({ node, host, mirrorHost, apiPort, mirrorPort, enrollmentUrl: url }));
    }
    for (const agent of agents) {
      await agent.project({ ca: await bundle(), token: await tokenOf(`agent-${agent.node}`) });
    }
  });

  afterAll(async () => {
    for (const agent of agents) await agent.remove();
    await operator?.remove();
    await kubectl.try(['delete', 'nodepools', '--all']);
    await kubectl.try(['delete', 'node', '--wait=false', ...Object.keys(hosts)]);
    await kubectl.try(['delete', 'namespace', '--wait=false', namespace]);
  });

  async function makePod(node: string, host: string): Promise<void> {
    const spec = {
      serviceAccountName: 'understudy-agent',
      nodeName: node,
      containers: [{ name: 'agent', image: 'understudy' }],
    };
    const name = `agent-${node}`;
    const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace, labels }, spec };
    await kubectl.run(['apply', '-f', '-'], manifest(pod));
    const status = { phase: 'Running', hostIP: host, podIP: host };
    await api.patch(agentPods, { namespace, name }, { status }, { subresource: 'status' });
  }

  /** What the kubelet asks for. */
  async function tokenOf(pod: string | undefined, audience = 'understudy'): Promise<string> {
    const bound = pod === undefined ? undefined : await api.get(agentPods, { namespace, name: pod });
    const reference = bound && { kind: 'Pod', apiVersion: 'v1', name: pod, uid: bound.metadata.uid };
    const spec = { audiences: [audience], expirationSeconds: 3600, ...(reference && { boundObjectRef: reference }) };
    const body = JSON.stringify({ apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec });
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/understudy-agent/token`;
    const answer = JSON.parse(await kubectl.run(['create', '--raw', path, '-f', '-'], body));
    return (answer as { status: { token: string } }).status.token;
  }

  async function bundle(): Promise<string> {
    const text = async () => (await api.get(configMaps, { namespace, name: 'understudy-ca' }))?.data?.['ca.crt'];
    return await waitFor(text, { timeoutMs, what: 'the ConfigMap with the authorities' });
  }

  function story(): string {
    return [...agents.map((agent) => agent.logTail()), operator?.logTail()].join('\n---\n');
  }

  async function inSync(name: string): Promise<void> {
    const isInSync = async () => {
      const object = await api.get(standbyMirrors, { namespace, name });
      return findCondition(object?.status?.conditions, 'InSync')?.status === 'True';
    };
    await waitFor(isInSync, { timeoutMs }).catch(() => {
      throw new Error(`mirror ${name} is not in sync:\n${story()}`);
    });
  }

  async function ask(token: string): Promise<X509Certificate> {
    const { request } = await makeCertificateRequest('node-a');
    return new X509Certificate(await requestCertificate({ url, ca: await bundle(), token, request }));
  }

  test('come up, are found by their pods, and mirror over the network that is for it', async () => {
    const ready = async () => (await Promise.all(agents.map((agent) => agent.isReady()))).every(Boolean);
    await waitFor(ready, { timeoutMs }).catch(() => {
      throw new Error(`the agents are not ready:\n${story()}`);
    });
    const pools = agents.flatMap(({ node, pools }) =>
      Object.entries(pools).map(([name, directory]) => pool(node, name, directory)),
    );
    await kubectl.run(['apply', '-f', '-'], manifest(...pools));
    for (const { node } of agents) {
      const isReady = async () => {
        const object = await api.get(nodePools, { name: `${node}-main` });
        return findCondition(object?.status?.conditions, 'Ready')?.status === 'True';
      };
      await waitFor(isReady, { timeoutMs }).catch(() => {
        throw new Error(`the pool of ${node} is not ready:\n${story()}`);
      });
    }
    await kubectl.run(['apply', '-f', '-'], manifest(volume(namespace, 'one'), mirror(namespace, 'one', 'one')));
    await inSync('one');
  });

  test('renew them, and go on with the new ones everywhere', async () => {
    // Every certificate of the beginning expires meanwhile: 30 seconds.
    const renewed = (agent: EnrollingAgent) => (agent.logTail().match(/"msg":"got a certificate"/g) ?? []).length >= 3;
    await waitFor(() => agents.every(renewed), { timeoutMs }).catch(() => {
      throw new Error(`certificates are not renewed:\n${story()}`);
    });
    await kubectl.run(['apply', '-f', '-'], manifest(volume(namespace, 'two'), mirror(namespace, 'two', 'two')));
    await inSync('two');
    await inSync('one');
    expect(await operator?.metrics()).toMatch(/understudy_operator_enrollments_total\{result="issued"\} [6-9]/);
  });

  test('get one of their own node only', async () => {
    expect((await ask(await tokenOf('agent-node-b'))).subject).toBe('O=understudy:node\nCN=node-b');
    await expect(ask(await tokenOf(undefined))).rejects.toThrow('not bound to a pod');
    await expect(ask(await tokenOf('agent-node-a', 'something-else'))).rejects.toThrow('no certificate: the token is');
    await expect(ask('eyJhbGciOiJub25lIn0.e30.')).rejects.toThrow('the token is not valid');
    const stale = await tokenOf('agent-node-b');
    await kubectl.run(['delete', 'pod', '-n', namespace, '--grace-period=0', '--force', 'agent-node-b']);
    await expect(ask(stale)).rejects.toThrow('no certificate: ');
  });
});
