import { randomBytes, X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeCertificateRequest } from '../../../agent/enrollment/certificate-request.ts';
import { EnrolledCertificates } from '../../../agent/enrollment/enrolled-certificates.ts';
import { requestCertificate } from '../../../agent/enrollment/enrollment-client.ts';
import { systemClock } from '../../../common/clock.ts';
import { silentLog } from '../../../common/log.ts';
import { bundleKey } from '../../../operator/certificates/authority-codec.ts';
import { Certificates } from '../../../operator/certificates/certificates.ts';
import { InMemoryKubeApi } from '../../../operator/kube/in-memory-kube-api.ts';
import type { KubeApi } from '../../../operator/kube/kube-api.ts';
import { agentPods, configMaps, secrets, type TokenReview } from '../../../operator/resources/platform-kinds.ts';
import { waitFor } from '../../support/wait-for.ts';

const namespace = 'understudy';
const rules = { namespace, serviceAccount: 'understudy-agent', audience: 'understudy' };
const policy = { authorityLifeMs: 3_600_000, leafLifeMs: 600_000, publishMs: 200 };

let directory: string;
let memory: InMemoryKubeApi;
let running: { stop(): Promise<void> | void }[] = [];

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'understudy-enrollment-'));
  memory = new InMemoryKubeApi({ namespaces: [namespace] });
});
afterEach(async () => {
  for (const each of running.reverse()) await each.stop();
  running = [];
  await rm(directory, { recursive: true });
});

/** The token "pod/uid" is one that is bound to that pod. */
function withReviews(api: KubeApi): KubeApi {
  const reviewed = (review: TokenReview): TokenReview => {
    const [pod = '', uid = ''] = review.spec.token.split('/');
    const extra = {
      'authentication.kubernetes.io/pod-name': [pod],
      'authentication.kubernetes.io/pod-uid': [uid],
    };
    const user = { username: `system:serviceaccount:${namespace}:understudy-agent`, extra };
    return { ...review, status: { authenticated: uid !== '', audiences: review.spec.audiences, user } };
  };
  const handler: ProxyHandler<KubeApi> = {
    get: (target, name) => {
      if (name !== 'create') {
        const member: unknown = Reflect.get(target, name);
        return typeof member === 'function' ? member.bind(target) : member;
      }
      return async (resource: { kind: string }, object: TokenReview) =>
        resource.kind === 'TokenReview' ? reviewed(object) : await target.create(resource as never, object as never);
    },
  };
  return new Proxy(api, handler);
}

interface Started {
  readonly certificates: Certificates;
  readonly results: string[];
  url(): string;
}

async function startOperator(options: { leads: boolean; policy?: typeof policy }): Promise<Started> {
  const api = withReviews(memory);
  const results: string[] = [];
  const certificates = new Certificates({
    api,
    namespace,
    secret: 'understudy-authority',
    configMap: 'understudy-ca',
    policy: options.policy ?? policy,
    identity: 'replica',
    enrollment: { listen: { host: '127.0.0.1', port: 0 }, rules, names: ['localhost'] },
    clock: systemClock,
    random: randomBytes,
    log: silentLog,
    onTls: () => {},
    onAuthority: () => {},
    onEnrolled: (result) => results.push(result),
  });
  certificates.start();
  if (options.leads) certificates.manage(api);
  running.push(certificates);
  await waitFor(() => certificates.trouble === undefined, { timeoutMs: 20_000 });
  return { certificates, results, url: () => `https://127.0.0.1:${certificates.enrollmentAddress?.port}` };
}

async function makePod(name: string, node: string): Promise<string> {
  const created = await memory.create(agentPods, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace },
    spec: { nodeName: node, serviceAccountName: 'understudy-agent' },
  });
  return `${name}/${created.metadata.uid}`;
}

async function bundle(): Promise<string> {
  const map = await memory.get(configMaps, { namespace, name: 'understudy-ca' });
  return map?.data?.[bundleKey] ?? '';
}

async function openAgent(url: string, token: string, node = 'node-a') {
  const config = {
    url,
    caFile: path.join(directory, 'ca.crt'),
    tokenFile: path.join(directory, 'token'),
    directory: path.join(directory, 'tls'),
  };
  await writeFile(config.caFile, await bundle());
  await writeFile(config.tokenFile, `${token}\n`);
  const results: string[] = [];
  const onRenewal = (result: string) => void results.push(result);
  const options = { config, node, clock: systemClock, log: silentLog, onRenewal };
  return { config, options, results, certificates: await EnrolledCertificates.open(options) };
}

test('an agent gets a certificate of the node on which its pod runs, whatever it asks for', async () => {
  const operator = await startOperator({ leads: true });
  const token = await makePod('agent-x', 'node-a');
  const { certificates, config } = await openAgent(operator.url(), token);
  const { cert, key, ca } = certificates.material;
  const certificate = new X509Certificate(cert);
  expect(certificate.subject).toBe('O=understudy:node\nCN=node-a');
  expect(certificate.subjectAltName).toBe('DNS:node-a');
  expect(certificate.verify(new X509Certificate(ca).publicKey)).toBe(true);
  expect(certificate.validToDate.getTime() - Date.now()).toBeLessThanOrEqual(policy.leafLifeMs);
  expect(key).toContain('PRIVATE KEY');
  expect((await stat(path.join(config.directory, 'identity.pem'))).mode & 0o777).toBe(0o600);
  expect((await stat(config.directory)).mode & 0o777).toBe(0o700);
  // The request of node-b, with the token of node-a's pod.
  const { request } = await makeCertificateRequest('node-b');
  const other = await requestCertificate({ url: operator.url(), ca, token, request });
  expect(new X509Certificate(other).subject).toBe('O=understudy:node\nCN=node-a');
  expect(operator.results).toEqual(['issued', 'issued']);
});

test('without a right to it there is none, and why is said without details of the API server', async () => {
  const operator = await startOperator({ leads: true });
  const ca = await bundle();
  const { request } = await makeCertificateRequest('node-a');
  const ask = (token: string, text = request) => requestCertificate({ url: operator.url(), ca, token, request: text });
  await expect(ask('stranger')).rejects.toThrow('no certificate: the token is not valid');
  await expect(ask('gone/uid')).rejects.toThrow('no certificate: pod gone is not there');
  const token = await makePod('agent-x', 'node-a');
  await expect(ask(token, 'nonsense')).rejects.toThrow('expected a PKCS #10 certificate request');
  const forged = withAnotherSignature(request);
  await expect(ask(token, forged)).rejects.toThrow('its signature does not match its key');
  memory.intercept = () => {
    throw new Error('secret details');
  };
  await expect(ask(token)).rejects.toThrow('the operator could not look the token up');
  expect(operator.results).toEqual(['refused', 'refused', 'failed', 'failed', 'failed']);
});

function withAnotherSignature(request: string): string {
  const lines = request.trim().split('\n').slice(1, -1);
  const der = Buffer.from(lines.join(''), 'base64');
  der[der.length - 1] = (der.at(-1) ?? 0) ^ 1;
  const type = 'CERTIFICATE REQUEST';
  return `-----BEGIN ${type}-----\n${der.toString('base64')}\n-----END ${type}-----`;
}

test('the token is told to nobody but an operator', async () => {
  const operator = await startOperator({ leads: true });
  const { request } = await makeCertificateRequest('node-a');
  const foreign = await openForeignBundle();
  await expect(requestCertificate({ url: operator.url(), ca: foreign, token: 'x/y', request })).rejects.toMatchObject({
    code: 'Unavailable',
  });
  expect(operator.results).toEqual([]);
});

async function openForeignBundle(): Promise<string> {
  const { makeAuthority } = await import('../../../operator/certificates/x509.ts');
  return (await makeAuthority('active', Date.now(), 3_600_000, randomBytes)).certificate;
}

test('several replicas that begin at the same time have one authority', async () => {
  const operators = await Promise.all([1, 2, 3].map(() => startOperator({ leads: true })));
  const token = await makePod('agent-x', 'node-a');
  const ca = await bundle();
  expect(ca.match(/BEGIN/g)?.length).toBe(1);
  for (const operator of operators) {
    const { request } = await makeCertificateRequest('node-a');
    const cert = await requestCertificate({ url: operator.url(), ca, token, request });
    expect(new X509Certificate(cert).verify(new X509Certificate(ca).publicKey)).toBe(true);
  }
});

test('a replica that does not lead gives certificates, and changes nothing', async () => {
  const leader = await startOperator({ leads: true });
  const changes: string[] = [];
  memory.intercept = ({ verb, kind }) => {
    if (verb !== 'get') changes.push(`${verb} ${kind}`);
  };
  const standby = await startOperator({ leads: false });
  memory.intercept = () => {};
  expect(changes).toEqual([]);
  const { certificates } = await openAgent(standby.url(), await makePod('agent-x', 'node-a'));
  expect(certificates.material.cert).toContain('BEGIN CERTIFICATE');
  expect(leader.results).toEqual([]);
});

test('a certificate is renewed before it expires, without a gap', async () => {
  const operator = await startOperator({ leads: true, policy: { ...policy, leafLifeMs: 10_000 } });
  const { certificates, results } = await openAgent(operator.url(), await makePod('agent-x', 'node-a'));
  const seen = [certificates.material.cert];
  const watch = certificates.watch(({ cert }) => seen.push(cert));
  try {
    await waitFor(() => seen.length >= 3, { timeoutMs: 60_000 });
  } finally {
    watch.cancel();
  }
  expect(new Set(seen).size).toBe(seen.length);
  expect(results).not.toContain('failed');
});

test('what is on the disk is used at once, also when it has expired and the operator is away; it is renewed later', async () => {
  const short = { ...policy, leafLifeMs: 3_000 };
  const operator = await startOperator({ leads: true, policy: short });
  const { options, certificates } = await openAgent(operator.url(), await makePod('agent-x', 'node-a'));
  const before = certificates.material.cert;
  await waitFor(() => new X509Certificate(before).validToDate.getTime() < Date.now(), { timeoutMs: 5_000 });
  const away = { ...options, config: { ...options.config, url: 'https://127.0.0.1:9' } };
  const restarted = await EnrolledCertificates.open(away);
  expect(restarted.material.cert.trim()).toBe(before.trim());
  const back = await EnrolledCertificates.open(options);
  let renewed = '';
  const watch = back.watch(({ cert }) => {
    renewed = cert;
  });
  await waitFor(() => renewed !== '' && renewed.trim() !== before.trim(), { timeoutMs: 20_000 });
  watch.cancel();
  expect(await readFile(path.join(options.config.directory, 'identity.pem'), 'utf8')).toContain('BEGIN CERTIFICATE');
});

test('a rotation of the authority reaches everybody before it signs', async () => {
  const operator = await startOperator({ leads: true });
  const token = await makePod('agent-x', 'node-a');
  const { certificates, config } = await openAgent(operator.url(), token);
  const first = certificates.material;
  const key = { namespace, name: 'understudy-authority' };
  const secret = await memory.get(secrets, key);
  await memory.patch(secrets, key, {
    metadata: { resourceVersion: secret?.metadata.resourceVersion, annotations: { 'understudy.dev/rotate': 'true' } },
  });
  await waitFor(async () => (await bundle()).match(/BEGIN/g)?.length === 2, { timeoutMs: 20_000 });
  const overlap = await bundle();
  expect(overlap).toContain(first.ca.trim());
  await writeFile(config.caFile, overlap);
  const signedBySecond = async () => {
    const { request } = await makeCertificateRequest('node-a');
    const cert = new X509Certificate(await requestCertificate({ url: operator.url(), ca: overlap, token, request }));
    return !cert.verify(new X509Certificate(first.ca).publicKey);
  };
  await waitFor(signedBySecond, { timeoutMs: 20_000 });
  expect((await memory.get(secrets, key))?.metadata.annotations ?? {}).toEqual({});
  expect((await bundle()).match(/BEGIN/g)?.length).toBe(2);
});

test('a certificate that no published authority has issued is replaced', async () => {
  const operator = await startOperator({ leads: true });
  const { certificates, config } = await openAgent(operator.url(), await makePod('agent-x', 'node-a'));
  await memory.delete(secrets, { namespace, name: 'understudy-authority' });
  await waitFor(async () => !certificates.material.ca.startsWith(await bundle()), { timeoutMs: 20_000 });
  await writeFile(config.caFile, await bundle());
  let renewed: { ca: string; cert: string } | undefined;
  const watch = certificates.watch((material) => {
    renewed = material;
  });
  const isNew = () =>
    renewed !== undefined && new X509Certificate(renewed.cert).verify(new X509Certificate(renewed.ca).publicKey);
  await waitFor(isNew, { timeoutMs: 20_000 });
  watch.cancel();
});
