import type { SnapshotView, VolumeView } from '../../agent/api/contract/volumes.ts';
import { type AgentProcess, startAgent } from '../kubernetes/support/agent-process.ts';
import { NbdTestClient } from '../support/nbd-client.ts';
import { waitFor } from '../support/wait-for.ts';

export const volume = 'pv-1';
export const sizeBytes = 16 * 1024 * 1024;

export interface Answer<Body> {
  readonly status: number;
  readonly body: Body;
}

/** Two agents as processes of their own: node-a with the primary, node-b with the standby and the buffer. */
export class TwoAgents {
  readonly a: AgentProcess;
  readonly b: AgentProcess;

  private constructor(a: AgentProcess, b: AgentProcess) {
    this.a = a;
    this.b = b;
  }

  /** `more` is added to the configuration of both; with it, both attach. `bytesPerSecond` limits resyncs and restores. */
  static async start(
    attach: 'none' | 'fuse' = 'none',
    more?: (directory: string) => object,
    bytesPerSecond?: number,
  ): Promise<TwoAgents> {
    const [a, b] = await Promise.all([
      startAgent('node-a', attach, more, bytesPerSecond),
      startAgent('node-b', more ? attach : 'none', more, bytesPerSecond),
    ]);
    return new TwoAgents(a, b);
  }

  async remove(): Promise<void> {
    await Promise.all([this.a.remove(), this.b.remove()]);
  }

  /** Makes the standby and the primary, and waits until they are in sync. */
  async mirrored(changes: { primary?: object; standby?: object } = {}): Promise<void> {
    const common = { size: sizeBytes, pool: 'main', epoch: 1, uid: 'uid-1' };
    const buffer = { pool: 'buffer', capacity: '256Mi' };
    expectOk(await put(this.b, `/v1/volumes/${volume}`, { ...common, role: 'standby', buffer, ...changes.standby }));
    const mirrors = [{ name: 'm', address: this.b.mirrorAddress, mode: 'synchronous' }];
    expectOk(await put(this.a, `/v1/volumes/${volume}`, { ...common, role: 'primary', mirrors, ...changes.primary }));
    await this.inSync();
  }

  async inSync(): Promise<void> {
    await waitFor(async () => (await view(this.a)).mirrors[0]?.state === 'InSync', { timeoutMs: 60_000 });
  }

  snapshot(name: string, more: object = {}): Promise<Answer<SnapshotView & Problem>> {
    return put(this.a, `/v1/volumes/${volume}/snapshots/${name}`, { mirror: 'm', ...more });
  }
}

export interface Problem {
  readonly code: string;
  readonly detail: string;
}

export function put<Body = SnapshotView & VolumeView & Problem>(agent: AgentProcess, path: string, body: object) {
  return call<Body>(agent, 'PUT', path, body);
}

export async function call<Body>(
  agent: AgentProcess,
  method: string,
  path: string,
  body?: object,
): Promise<Answer<Body>> {
  const response = await fetch(`http://${agent.apiAddress}${path}`, {
    method,
    ...(body ? { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } } : {}),
  });
  const text = await response.text();
  return { status: response.status, body: (text === '' ? {} : JSON.parse(text)) as Body };
}

export async function view(agent: AgentProcess): Promise<VolumeView> {
  return (await call<VolumeView>(agent, 'GET', `/v1/volumes/${volume}`)).body;
}

/** A client of an export of the volume, on the agent's unix socket. */
export async function client(agent: AgentProcess, exportName = volume): Promise<NbdTestClient> {
  return NbdTestClient.connect(await socketOf(agent), { exportName });
}

export async function socketOf(agent: AgentProcess): Promise<string> {
  return (await view(agent)).nbd;
}

export async function uri(agent: AgentProcess, exportName = volume): Promise<string> {
  return `nbd+unix:///${exportName}?socket=${await socketOf(agent)}`;
}

/** The whole content of an export. */
export async function content(agent: AgentProcess, exportName = volume): Promise<Buffer> {
  const nbd = await client(agent, exportName);
  try {
    const pieces: Buffer[] = [];
    for (let offset = 0; offset < nbd.size; offset += 1024 * 1024) {
      pieces.push(await nbd.read(offset, Math.min(1024 * 1024, nbd.size - offset)));
    }
    return Buffer.concat(pieces);
  } finally {
    nbd.close();
  }
}

export function expectOk({ status, body }: Answer<unknown>): void {
  if (status >= 300) throw new Error(`answered ${status}: ${JSON.stringify(body)}`);
}
