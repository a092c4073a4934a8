import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Certificate } from '../../support/certificates.ts';
import { waitFor } from '../../support/wait-for.ts';
import { auditPolicy } from './audit-log.ts';
import { type Daemon, startDaemon } from './daemon.ts';
import type { ControlPlane } from './handle.ts';
import { makePki, type Pki } from './pki.ts';
import { freePorts } from './ports.ts';

/** Programs to run; without a controller manager namespaces are never emptied and nothing is garbage-collected. */
export interface Binaries {
  etcd: string;
  apiServer: string;
  controllerManager?: string;
  kubectl: string;
}

/** Finds what a folder has of the control plane's programs; what it lacks may be in PATH, but not the API server. */
export function findBinaries(directory: string): Binaries | { unavailable: string } {
  const find = (name: string) => [join(directory, name), ...inPath(name)].find(existsSync);
  const apiServer = join(directory, 'kube-apiserver');
  const [etcd, kubectl] = [find('etcd'), find('kubectl')];
  const controllerManager = join(directory, 'kube-controller-manager');
  if (!existsSync(apiServer)) return { unavailable: `${directory} has no kube-apiserver` };
  if (!etcd) return { unavailable: `neither ${directory} nor PATH has etcd` };
  if (!kubectl) return { unavailable: `neither ${directory} nor PATH has kubectl` };
  return { etcd, apiServer, kubectl, ...(existsSync(controllerManager) ? { controllerManager } : {}) };
}

/** Where PATH would look for a program. */
export function inPath(name: string): string[] {
  return (process.env.PATH ?? '').split(':').map((directory) => join(directory, name));
}

/** Runs etcd, kube-apiserver and kube-controller-manager on 127.0.0.1, with their state in a temporary folder. */
export async function startLocalControlPlane(binaries: Binaries, source: string): Promise<ControlPlane> {
  const directory = await mkdtemp(join(tmpdir(), 'understudy-kube-'));
  const daemons: Daemon[] = [];
  const stop = async () => {
    // At once and not gracefully: what they were doing is thrown away.
    for (const daemon of daemons.reverse()) await daemon.stop('SIGKILL');
    await keepLogs(directory);
    await rm(directory, { recursive: true, force: true });
  };
  try {
    return { ...(await start(binaries, directory, daemons)), source, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function start(binaries: Binaries, directory: string, daemons: Daemon[]) {
  const pki = await makePki(directory);
  const [apiPort = 0, etcdPort = 0, peerPort = 0, managerPort = 0] = await freePorts(4);
  const server = `https://127.0.0.1:${apiPort}`;
  const kubeconfig = join(directory, 'admin.kubeconfig');
  await writeKubeconfig(kubeconfig, server, pki.ca, pki.admin);
  const run = (name: string, command: string[]) => {
    const daemon = startDaemon(name, command, { logFile: join(directory, `${name}.log`) });
    daemons.push(daemon);
    return daemon;
  };

  const etcdUrl = `http://127.0.0.1:${etcdPort}`;
  run('etcd', etcdCommand(binaries.etcd, join(directory, 'etcd'), etcdUrl, `http://127.0.0.1:${peerPort}`));

  await writeFile(join(directory, 'audit-policy.yaml'), JSON.stringify(auditPolicy));
  const startApiServer = async () => {
    const daemon = run('kube-apiserver', apiServerCommand(binaries.apiServer, directory, etcdUrl, apiPort));
    await waitForDaemon(daemon, async () => (await get(`${server}/readyz`, pki)) === 'ok');
    return daemon;
  };
  let apiServer = await startApiServer();

  if (binaries.controllerManager) {
    const managerKubeconfig = join(directory, 'controller-manager.kubeconfig');
    await writeKubeconfig(managerKubeconfig, server, pki.ca, pki.controllerManager);
    const manager = run(
      'kube-controller-manager',
      controllerManagerCommand(binaries.controllerManager, directory, managerKubeconfig, managerPort),
    );
    const account = `${server}/api/v1/namespaces/default/serviceaccounts/default`;
    await waitForDaemon(manager, async () => (await get(account, pki)) !== undefined);
  }

  return {
    kubeconfig,
    kubectl: binaries.kubectl,
    version: versionOf(binaries.apiServer),
    hasControllerManager: binaries.controllerManager !== undefined,
    auditLog: join(directory, 'audit.log'),
    pids: () => daemons.filter((daemon) => daemon.running()).map((daemon) => daemon.pid),
    apiServer: {
      kill: () => apiServer.stop('SIGKILL'),
      start: async () => {
        apiServer = await startApiServer();
      },
      pause: () => process.kill(apiServer.pid, 'SIGSTOP'),
      resume: () => process.kill(apiServer.pid, 'SIGCONT'),
    },
  };
}

function etcdCommand(program: string, data: string, client: string, peer: string): string[] {
  return [
    program,
    '--name=test',
    `--data-dir=${data}`,
    // The data is thrown away after the test; nothing here cuts the machine's power.
    '--unsafe-no-fsync',
    '--logger=zap',
    '--log-level=warn',
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=test=${peer}`,
  ];
}

function apiServerCommand(program: string, pki: string, etcd: string, port: number): string[] {
  return [
    program,
    `--etcd-servers=${etcd}`,
    '--bind-address=127.0.0.1',
    `--secure-port=${port}`,
    '--advertise-address=127.0.0.1',
    '--endpoint-reconciler-type=none',
    // Both families, where that needs no feature gate.
    `--service-cluster-ip-range=10.96.0.0/16${minorOf(program) < 23 ? '' : ',fd00::/108'}`,
    '--authorization-mode=Node,RBAC',
    '--allow-privileged=true',
    `--client-ca-file=${join(pki, 'ca.crt')}`,
    `--tls-cert-file=${join(pki, 'apiserver.crt')}`,
    `--tls-private-key-file=${join(pki, 'apiserver.key')}`,
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-signing-key-file=${join(pki, 'sa.key')}`,
    `--service-account-key-file=${join(pki, 'sa.pub')}`,
    `--audit-policy-file=${join(pki, 'audit-policy.yaml')}`,
    `--audit-log-path=${join(pki, 'audit.log')}`,
    '--audit-log-mode=blocking',
  ];
}

function controllerManagerCommand(program: string, pki: string, kubeconfig: string, port: number): string[] {
  return [
    program,
    `--kubeconfig=${kubeconfig}`,
    `--authentication-kubeconfig=${kubeconfig}`,
    `--authorization-kubeconfig=${kubeconfig}`,
    '--bind-address=127.0.0.1',
    `--secure-port=${port}`,
    // Up to 1.23 it also serves plain HTTP on every address unless told not to.
    ...(minorOf(program) < 24 ? ['--port=0'] : []),
    '--leader-elect=false',
    '--use-service-account-credentials=true',
    `--service-account-private-key-file=${join(pki, 'sa.key')}`,
    `--root-ca-file=${join(pki, 'ca.crt')}`,
    '--kube-api-qps=200',
    '--kube-api-burst=400',
    '--pvclaimbinder-sync-period=2s',
    `--flex-volume-plugin-dir=${join(pki, 'flex')}`,
  ];
}

function minorOf(program: string): number {
  return Number(/v1\.(\d+)/.exec(versionOf(program))?.[1]);
}

function versionOf(program: string): string {
  return execFileSync(program, ['--version'], { encoding: 'utf8' }).trim().replace('Kubernetes ', '');
}

async function waitForDaemon(daemon: Daemon, ready: () => Promise<boolean>): Promise<void> {
  const failed = () => new Error(`${daemon.name} did not come up:\n${daemon.logTail()}`);
  await waitFor(async () => !daemon.running() || (await ready()), { timeoutMs: 120_000 }).catch(() => {
    throw failed();
  });
  if (!daemon.running()) throw failed();
}

/** The body of a 200 answer to the administrator, else undefined. */
function get(url: string, pki: Pki): Promise<string | undefined> {
  return new Promise((resolve) => {
    const options = { ca: pki.ca, ...pki.admin, agent: false, timeout: 10_000 };
    const call = request(url, options, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        body += chunk;
      });
      response.on('end', () => resolve(response.statusCode === 200 ? body : undefined));
    });
    call.on('timeout', () => call.destroy(new Error('no answer')));
    call.on('error', () => resolve(undefined));
    call.end();
  });
}

async function writeKubeconfig(path: string, server: string, ca: string, user: Certificate): Promise<void> {
  const base64 = (pem: string) => Buffer.from(pem).toString('base64');
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'test',
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
    clusters: [{ name: 'test', cluster: { server, 'certificate-authority-data': base64(ca) } }],
    users: [
      {
        name: 'test',
        user: { 'client-certificate-data': base64(user.cert), 'client-key-data': base64(user.key) },
      },
    ],
  };
  // JSON is YAML.
  await writeFile(path, JSON.stringify(config), { mode: 0o600 });
}

/** For continuous integration: UNDERSTUDY_TEST_LOGS names a folder in which the logs stay. */
async function keepLogs(directory: string): Promise<void> {
  const target = process.env.UNDERSTUDY_TEST_LOGS;
  if (!target) return;
  await mkdir(target, { recursive: true });
  await cp(directory, target, { recursive: true, filter: (path) => path === directory || path.endsWith('.log') });
}
