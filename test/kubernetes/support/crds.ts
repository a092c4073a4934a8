import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { waitFor } from '../../support/wait-for.ts';
import { projectDirectory } from '../control-plane.ts';
import type { Kubectl } from './kubectl.ts';

export const crdDirectory = join(projectDirectory, 'crds');

/** CEL rules of CustomResourceDefinitions came with Kubernetes 1.25; before that they are dropped. */
export function hasCel(version: string): boolean {
  return isAtLeast(version, 25);
}

/** Ours compare quantities, which came with Kubernetes 1.29. */
export function hasCelQuantities(version: string): boolean {
  return isAtLeast(version, 29);
}

/** ValidatingAdmissionPolicy, and the node of a pod in its tokens. */
export function hasAdmissionPolicies(version: string): boolean {
  return isAtLeast(version, 30);
}

function isAtLeast(version: string, wanted: number): boolean {
  const [, major, minor] = /^v(\d+)\.(\d+)/.exec(version) ?? [];
  return Number(major) > 1 || Number(minor) >= wanted;
}

/** The files of crds/. */
export async function crdFiles(): Promise<string[]> {
  return (await readdir(crdDirectory)).filter((file) => file.endsWith('.yaml')).map((file) => join(crdDirectory, file));
}

/** Applies crds/ and waits until every kind is served; does nothing if they are there already. */
export async function installCrds(kubectl: Kubectl, version: string): Promise<void> {
  // The server drops what it does not know; kubectl of that time refuses to send it.
  const validation = hasCel(version) ? [] : ['--validate=false'];
  await kubectl.run(['apply', ...validation, '-f', crdDirectory]);
  await kubectl.run(['wait', '--for=condition=Established', '--timeout=30s', '-f', crdDirectory]);
  const wanted = (await crdFiles()).length;
  // Established comes a moment before the discovery documents name the kind.
  await waitFor(async () => (await servedKinds(kubectl)).length >= wanted, { timeoutMs: 30_000, intervalMs: 100 });
}

/** The plural names of the kinds of our group that the API server serves. */
export async function servedKinds(kubectl: Kubectl): Promise<string[]> {
  const found = await kubectl.try(['get', '--raw', '/apis/understudy.dev/v1alpha1']);
  if (found.status !== 0) return [];
  const { resources } = JSON.parse(found.stdout) as { resources: { name: string }[] };
  return resources.map(({ name }) => name).filter((name) => !name.includes('/'));
}
