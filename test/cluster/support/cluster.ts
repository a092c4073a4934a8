import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { projectDirectory } from './project.ts';

const run = promisify(execFile);
const rigDirectory = join(projectDirectory, 'test/cluster/rig');
const buildPrograms = join(projectDirectory, 'test/kubernetes/control-plane/build-from-debian');
/** In which each cluster has a folder of its own, named after the process that has it. */
const statesDirectory = '/run/understudy-clusters';
const nodeCount = 2;

/** What test files have to know of the cluster. */
export interface ClusterFacts {
  readonly state: string;
  readonly kubeconfig: string;
  readonly kubectl: string;
}

export interface Cluster extends ClusterFacts {
  /** Runs a command of test/cluster/rig. */
  rig(command: string, ...args: string[]): Promise<string>;
  stop(): Promise<void>;
}

/** What nodes need of the kernel, each with a command that tries it in namespaces of its own. */
const needs: readonly (readonly [string, string])[] = [
  ['cgroups that can be made', 'd=/sys/fs/cgroup/memory/understudy-$$; mkdir "$d" && rmdir "$d"'],
  ['namespaces', 'unshare --mount --uts --ipc --pid --net --fork true'],
  [
    'overlay filesystems',
    'd=$(mktemp -d); unshare --mount sh -c \'mount -t tmpfs x "$1" && mkdir "$1/a" "$1/b" "$1/c" "$1/d" && ' +
      'mount -t overlay -o "lowerdir=$1/a,upperdir=$1/b,workdir=$1/c" x "$1/d"\' sh "$d"; s=$?; rmdir "$d"; exit $s',
  ],
  ['bridges', 'unshare --net sh -c "ip link add bridge0 type bridge && ip link add veth0 type veth peer name veth1"'],
  ['network address translation', 'unshare --net iptables -t nat -S'],
  ['loop devices', 'losetup --find'],
];

/** Why this machine cannot have nodes, or undefined. Their programs are there already. */
export async function whyNoCluster(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'nodes need root';
  if (!existsSync('/sys/fs/cgroup/memory')) return 'nodes need cgroup v1';
  if (!existsSync('/dev/fuse')) return 'there is no /dev/fuse';
  for (const [what, command] of needs) {
    try {
      await run('sh', ['-c', command]);
    } catch (error) {
      return `nodes need ${what}: ${error instanceof Error ? error.message : String(error)}`;
    }
  }
  return undefined;
}

/** Starts two nodes; whatever becomes of this process, they are stopped after it. */
export async function startCluster(): Promise<Cluster> {
  await run(buildPrograms, ['nodes']);
  await stopForgotten();
  const state = join(statesDirectory, String(process.pid));
  await mkdir(state, { recursive: true });
  const rig = rigOf(state);
  await rig('guard', String(process.pid));
  await rig('up', 'nodes', String(nodeCount));
  return { ...(await factsOf(state)), rig, stop: async () => void (await rig('down')) };
}

/** Of a cluster that is up. */
export async function factsOf(state: string): Promise<ClusterFacts> {
  const programs = (await run(buildPrograms, ['nodes'])).stdout.trim();
  return { state, kubeconfig: (await rigOf(state)('kubeconfig')).trim(), kubectl: join(programs, 'kubectl') };
}

/** Runs a command of test/cluster/rig on the cluster in the folder `state`. @throws Error with what it said */
export function rigOf(state: string): Cluster['rig'] {
  const env = { ...process.env, KUBE_RIG_STATE: state, KUBE_RIG_LOGS: process.env.UNDERSTUDY_TEST_LOGS };
  return async (command, ...args) =>
    (await run(join(rigDirectory, command), args, { env, maxBuffer: 16 << 20 })).stdout;
}

/** Clusters whose owner and guard were both killed. */
async function stopForgotten(): Promise<void> {
  for (const pid of await readdir(statesDirectory).catch(() => [])) {
    if (existsSync(`/proc/${pid}`)) continue;
    await rigOf(join(statesDirectory, pid))('down');
  }
}
