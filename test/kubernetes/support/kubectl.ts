import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { inject } from 'vitest';
import type { SharedControlPlane } from '../global-setup.ts';

/** What a command printed and how it ended. */
export interface Outcome {
  status: number;
  stdout: string;
  stderr: string;
}

/** kubectl as a user would call it, on one cluster. */
export interface Kubectl {
  /** Never throws because of the command's exit status. */
  try(args: readonly string[], input?: string): Promise<Outcome>;
  /** The standard output. @throws Error with what kubectl said when it fails. */
  run(args: readonly string[], input?: string): Promise<string>;
}

/** kubectl on the given cluster, or on the one that all test files share. */
export function kubectlOf(cluster: { kubectl: string; kubeconfig: string }): Kubectl {
  const attempt = (args: readonly string[], input?: string) =>
    execute(cluster.kubectl, ['--kubeconfig', cluster.kubeconfig, ...args], input);
  const run = async (args: readonly string[], input?: string) => {
    const outcome = await attempt(args, input);
    if (outcome.status !== 0) throw new Error(`kubectl ${args.join(' ')} failed: ${outcome.stderr}`);
    return outcome.stdout;
  };
  return {
    try: attempt,
    run,
  };
}

/** The shared control plane; only for code that runs when it is available. */
export function sharedControlPlane(): SharedControlPlane {
  const plane = inject('controlPlane');
  if ('unavailable' in plane) throw new Error(plane.unavailable);
  return plane;
}

const run = promisify(execFile);

async function execute(program: string, args: readonly string[], input?: string): Promise<Outcome> {
  const running = run(program, [...args], { maxBuffer: 64 << 20 });
  running.child.stdin?.end(input ?? '');
  try {
    return { status: 0, ...(await running) };
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'number') throw error;
    const { stdout, stderr } = error as unknown as { stdout: string; stderr: string };
    return { status: error.code, stdout, stderr };
  }
}
