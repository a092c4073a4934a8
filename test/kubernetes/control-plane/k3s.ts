import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ControlPlane } from './handle.ts';

const image = process.env.UNDERSTUDY_TEST_K3S_IMAGE ?? 'rancher/k3s:v1.34.1-k3s1';

/** K3s in a container, if a Docker engine answers. */
export async function startK3s(kubectl: string | undefined): Promise<ControlPlane | { unavailable: string }> {
  const { getContainerRuntimeClient } = await import('testcontainers');
  try {
    await getContainerRuntimeClient();
  } catch {
    return { unavailable: 'no Docker engine answers' };
  }
  if (!kubectl) return { unavailable: 'K3s would run, but PATH has no kubectl' };

  const { K3sContainer } = await import('@testcontainers/k3s');
  // The cloud controller would delete the Node objects that the tests make.
  const container = await new K3sContainer(image)
    .withCommand(['server', '--disable=traefik,servicelb,metrics-server', '--disable-cloud-controller'])
    .start();
  const directory = await mkdtemp(join(tmpdir(), 'understudy-k3s-'));
  const kubeconfig = join(directory, 'kubeconfig');
  await writeFile(kubeconfig, container.getKubeConfig(), { mode: 0o600 });
  return {
    source: `K3s (${image})`,
    kubeconfig,
    kubectl,
    version: image.replace(/^.*:/, ''),
    hasControllerManager: true,
    pids: () => [],
    stop: async () => {
      await container.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
