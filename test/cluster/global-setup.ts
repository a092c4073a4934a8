import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import type { TestProject } from 'vitest/node';
import { buildUnderstudyImage, buildWorkloadImage } from './image/images.ts';
import { type Cluster, type ClusterFacts, factsOf, startCluster, whyNoCluster } from './support/cluster.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** What failed, or why there is none; in both cases every test is skipped, and in the first one test fails. */
    cluster: ClusterFacts | { unavailable: string; isFailure: boolean };
  }
}

/**
 * Starts the cluster and loads the images, or lets every test be skipped and says why. With UNDERSTUDY_TEST_CLUSTER, the
 * folder of a cluster that is up, with images and chart, the tests go on with that: to work on one chapter.
 */
export async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const given = process.env.UNDERSTUDY_TEST_CLUSTER;
  if (given !== undefined) {
    project.provide('cluster', await factsOf(given));
    return undefined;
  }
  const unavailable = await whyNoCluster();
  if (unavailable !== undefined) {
    console.warn(`test/cluster is skipped: ${unavailable}`);
    project.provide('cluster', { unavailable, isFailure: false });
    return undefined;
  }
  try {
    const cluster = await startClusterWithImages();
    const { state, kubeconfig, kubectl } = cluster;
    project.provide('cluster', { state, kubeconfig, kubectl });
    return () => cluster.stop();
  } catch (error) {
    // A setup that throws leaves no report, and so nothing to read at the end of a log.
    project.provide('cluster', { unavailable: inspect(error), isFailure: true });
    return undefined;
  }
}

async function startClusterWithImages(): Promise<Cluster> {
  const directory = await mkdtemp(join(tmpdir(), 'understudy-images-'));
  const archives = ['understudy.tar', 'workload.tar'].map((name) => join(directory, name)) as [string, string];
  // The nodes start meanwhile.
  const built = Promise.allSettled([buildUnderstudyImage(archives[0]), buildWorkloadImage(archives[1])]);
  try {
    const cluster = await startCluster();
    try {
      for (const outcome of await built) if (outcome.status === 'rejected') throw outcome.reason;
      for (const archive of archives) await cluster.rig('load-image', archive);
      return cluster;
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  } finally {
    await built;
    await rm(directory, { recursive: true, force: true });
  }
}
