import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { ControlPlane } from './control-plane/handle.ts';
import { startK3s } from './control-plane/k3s.ts';
import { findBinaries, inPath, startLocalControlPlane } from './control-plane/local.ts';

const run = promisify(execFile);
const buildFromDebian = join(import.meta.dirname, 'control-plane', 'build-from-debian');

type Attempt = () => Promise<ControlPlane | { unavailable: string }>;

/**
 * Starts the first control plane that this machine can have: the cluster of KUBECONFIG, the programs in
 * KUBEBUILDER_ASSETS, K3s in Docker, or Debian 12's Kubernetes 1.20.2, built once and kept in a cache.
 */
export async function startControlPlane(): Promise<ControlPlane | { unavailable: string }> {
  const attempts: Attempt[] = [
    givenCluster,
    givenBinaries,
    () => startK3s(inPath('kubectl').find(existsSync)),
    debianBinaries,
  ];
  const reasons: string[] = [];
  for (const attempt of attempts) {
    const outcome = await attempt().catch((error: unknown) => ({ unavailable: oneLine(error) }));
    if (!('unavailable' in outcome)) return outcome;
    reasons.push(outcome.unavailable);
  }
  return { unavailable: reasons.join('; ') };
}

async function givenCluster(): Promise<ControlPlane | { unavailable: string }> {
  const kubeconfig = process.env.KUBECONFIG;
  if (!kubeconfig) return { unavailable: 'KUBECONFIG is not set' };
  const kubectl = inPath('kubectl').find(existsSync);
  if (!kubectl) return { unavailable: 'KUBECONFIG is set, but PATH has no kubectl' };
  const ask = async (...args: string[]) => (await run(kubectl, ['--kubeconfig', kubeconfig, ...args])).stdout;
  const { gitVersion: version } = JSON.parse(await ask('get', '--raw', '/version')) as { gitVersion: string };
  const installed = async () => (await ask('get', 'crd', '-o', 'name')).split('\n').filter(isOurs);
  // The tests delete what they find; a cluster in which Understudy serves someone is not theirs.
  if ((await installed()).length > 0) return { unavailable: 'Understudy is installed in the cluster of KUBECONFIG' };
  return {
    kubeconfig,
    kubectl,
    version,
    source: `the cluster of KUBECONFIG (${version})`,
    hasControllerManager: true,
    pids: () => [],
    stop: async () => {
      await ask('delete', '--ignore-not-found', '--timeout=60s', ...(await installed()));
    },
  };
}

function isOurs(crd: string): boolean {
  return crd.endsWith('.understudy.dev');
}

async function givenBinaries(): Promise<ControlPlane | { unavailable: string }> {
  const directory = process.env.KUBEBUILDER_ASSETS;
  if (!directory) return { unavailable: 'KUBEBUILDER_ASSETS is not set' };
  const binaries = findBinaries(directory);
  return 'unavailable' in binaries ? binaries : startLocalControlPlane(binaries, `KUBEBUILDER_ASSETS (${directory})`);
}

async function debianBinaries(): Promise<ControlPlane | { unavailable: string }> {
  // What it says on the way (installing, building for minutes) is for whoever waits.
  const build = run(buildFromDebian, { maxBuffer: 1 << 20 });
  build.child.stderr?.pipe(process.stderr);
  const binaries = findBinaries((await build).stdout.trim());
  return 'unavailable' in binaries ? binaries : startLocalControlPlane(binaries, "Debian's Kubernetes 1.20.2");
}

function oneLine(error: unknown): string {
  const stderr = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : '';
  const text = stderr || (error instanceof Error ? error.message : String(error));
  return text.split('\n').at(-1) ?? '';
}

/** The folder of the project. */
export const projectDirectory = dirname(dirname(import.meta.dirname));
