import { spawn } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, expect, inject, test } from 'vitest';
import { waitFor } from '../support/wait-for.ts';

const shared = inject('controlPlane');
const modulePath = new URL('./control-plane.ts', import.meta.url).href;

/** Starts a control plane, says where, and waits to be killed. */
const holder = `
  const { startControlPlane } = await import(${JSON.stringify(modulePath)});
  const plane = await startControlPlane();
  console.log(JSON.stringify('unavailable' in plane ? plane : { kubeconfig: plane.kubeconfig, pids: plane.pids() }));
  setInterval(() => {}, 60_000);
`;

describe.runIf('isOurs' in shared && shared.isOurs)('the control plane of these tests', () => {
  test('does not outlive the process that started it, even if that is killed', async () => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', holder], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      const { value: line } = await createInterface(child.stdout)[Symbol.asyncIterator]().next();
      const { kubeconfig, pids } = JSON.parse(line ?? '{}') as { kubeconfig: string; pids: number[] };
      expect(pids.every(exists)).toBe(true);

      child.kill('SIGKILL');

      await waitFor(() => !pids.some(exists), { timeoutMs: 20_000 });
      await rm(dirname(kubeconfig), { recursive: true, force: true });
    } finally {
      child.kill('SIGKILL');
    }
  });
});

function exists(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
