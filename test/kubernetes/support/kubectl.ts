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

/** The parts of any Kubernetes object that these tests read. */
export interface KubeObject {
  metadata: {
    name: string;
    namespace?: string;
    uid: string;
    generation?: number;
    resourceVersion: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    finalizers?: string[];
    deletionTimestamp?: string;
  };
  spec: Record<string, unknown>;
  status?: Record<string, unknown> & { conditions?: Condition[] };
}

export interface Condition {
  type: string;
  status: 'True' | 'False' | 'Unknown';
  reason: string;
  message: string;
  observedGeneration?: number;
}

/** kubectl as a user would call it, on one cluster. */
export interface Kubectl {
  /** Never throws because of the command's exit status. */
  try(args: readonly string[], input?: string): Promise<Outcome>;
  /** The standard output. @throws Error with what kubectl said when it fails. */
  run(args: readonly string[], input?: string): Promise<string>;
  /** One object, or undefined if it is not there; other failures throw. */
  get(kind: string, name: string, namespace?: string): Promise<KubeObject | undefined>;
  list(kind: string, namespace?: string): Promise<KubeObject[]>;
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
  const place = (namespace?: string) => (namespace ? ['-n', namespace] : []);
  return {
    try: attempt,
    run,
    get: async (kind, name, namespace) => {
      const text = await run(['get', kind, name, ...place(namespace), '-o', 'json', '--ignore-not-found']);
      return text === '' ? undefined : (JSON.parse(text) as KubeObject);
    },
    list: async (kind, namespace) => {
      const everywhere = namespace ? place(namespace) : ['--all-namespaces'];
      return (JSON.parse(await run(['get', kind, ...everywhere, '-o', 'json'])) as { items: KubeObject[] }).items;
    },
  };
}

/** The condition of that type, if the controller has written it for the object's present generation. */
export function condition(object: KubeObject | undefined, type: string): Condition | undefined {
  const found = object?.status?.conditions?.find((entry) => entry.type === type);
  const current = found?.observedGeneration === undefined || found.observedGeneration === object?.metadata.generation;
  return current ? found : undefined;
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
