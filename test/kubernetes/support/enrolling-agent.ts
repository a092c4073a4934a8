import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { routes } from '../../../agent/api/contract/routes.ts';
import { type Daemon, startDaemon } from '../control-plane/daemon.ts';
import { projectDirectory } from '../control-plane.ts';

export interface EnrollingAgentOptions {
  readonly node: string;
  /** A loopback address of its own: all agents of a cluster have the same ports. */
  readonly host: string;
  /** Another one at which mirrors reach it. */
  readonly mirrorHost: string;
  readonly apiPort: number;
  readonly mirrorPort: number;
  readonly enrollmentUrl: string;
}

/** An agent as a process that gets its certificates from the operator; the test does what the kubelet would. */
export interface EnrollingAgent {
  readonly node: string;
  readonly pools: Readonly<Record<string, string>>;
  /** Puts down what the kubelet projects into the pod. */
  project(files: { readonly ca: string; readonly token: string }): Promise<void>;
  /** Without a certificate of a client; undefined while nobody answers. */
  isReady(): Promise<boolean>;
  logTail(): string;
  remove(): Promise<void>;
}

export async function startEnrollingAgent(options: EnrollingAgentOptions): Promise<EnrollingAgent> {
  const { node, host, mirrorHost, apiPort, mirrorPort, enrollmentUrl } = options;
  const directory = await mkdtemp(join(tmpdir(), 'us-'));
  const pools = { main: join(directory, 'main'), buffer: join(directory, 'buffer') };
  for (const pool of Object.values(pools)) await mkdir(pool);
  const files = { ca: join(directory, 'ca.crt'), token: join(directory, 'token') };
  const config = {
    node,
    stateDirectory: join(directory, 'state'),
    pools: Object.entries(pools).map(([name, path]) => ({ name, directory: path })),
    api: { listen: `${host}:${apiPort}` },
    mirror: { listen: `${mirrorHost}:${mirrorPort}` },
    nbd: { directory: join(directory, 'nbd') },
    attach: 'none',
    tls: {
      enrollment: {
        url: enrollmentUrl,
        caFile: files.ca,
        tokenFile: files.token,
        directory: join(directory, 'tls'),
      },
    },
  };
  const configFile = join(directory, 'agent.yaml');
  // JSON is YAML.
  await writeFile(configFile, JSON.stringify(config, null, 2));
  const command = [process.execPath, join(projectDirectory, 'bin', 'understudy.ts'), 'agent', '--config', configFile];
  const daemon: Daemon = startDaemon(`agent ${node}`, command, { logFile: join(directory, 'agent.log') });
  return {
    node,
    pools,
    project: async ({ ca, token }) => {
      await writeFile(files.ca, ca);
      await writeFile(files.token, token);
    },
    isReady: () => answersOk(host, apiPort),
    logTail: () => daemon.logTail(30),
    remove: async () => {
      await daemon.stop('SIGTERM');
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function answersOk(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = request({ host, port, path: routes.readyz, rejectUnauthorized: false, agent: false }, (answer) => {
      answer.resume();
      resolve(answer.statusCode === 200);
    });
    asked.on('error', () => resolve(false));
    asked.end();
  });
}
