import type { TestProject } from 'vitest/node';
import { startControlPlane } from './control-plane.ts';

/** What test files know of the control plane that all of them share. */
export interface SharedControlPlane {
  kubeconfig: string;
  kubectl: string;
  source: string;
  version: string;
  hasControllerManager: boolean;
  /** See ControlPlane. */
  auditLog?: string;
  /** It is made of processes of ours, so that a test can have another one like it and do harm to that. */
  isOurs: boolean;
}

declare module 'vitest' {
  interface ProvidedContext {
    controlPlane: SharedControlPlane | { unavailable: string };
  }
}

/** Starts the control plane, or lets every test be skipped and says why. */
export async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const plane = await startControlPlane();
  if ('unavailable' in plane) {
    console.warn(`test/kubernetes is skipped, no Kubernetes API: ${plane.unavailable}`);
    project.provide('controlPlane', plane);
    return undefined;
  }
  console.warn(`test/kubernetes runs on ${plane.source}`);
  const { kubeconfig, kubectl, source, version, hasControllerManager, auditLog } = plane;
  const isOurs = plane.apiServer !== undefined;
  const shared = { kubeconfig, kubectl, source, version, hasControllerManager, isOurs };
  project.provide('controlPlane', { ...shared, ...(auditLog === undefined ? {} : { auditLog }) });
  return () => plane.stop();
}
