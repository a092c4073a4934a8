import type { Bench } from '../bench-context.ts';
import type { NbdTarget } from '../fio.ts';
import { BenchAgent } from './agent.ts';
import { fill } from './fill.ts';

/** A volume without mirrors that has its snapshots in a buffer on its own node. */
export interface ProtectedVolume {
  readonly agent: BenchAgent;
  readonly target: NbdTarget;
}

export function protectedVolume(bench: Bench): Promise<ProtectedVolume> {
  return bench.shared('single server', async () => {
    const agent = await BenchAgent.start(bench, { node: 'p' });
    const size = bench.options.volumeBytes;
    const buffer = { pool: 'buffer', capacity: Math.max(2 * size, 1024 ** 3), maxSnapshots: 8 };
    const spec = { size, pool: 'main', role: 'primary' as const, epoch: 1, buffer };
    const { nbd } = await agent.client.putVolume('vol', spec);
    const target: NbdTarget = { kind: 'nbd', socket: nbd, exportName: 'vol', pids: () => [agent.pid] };
    await fill(bench, target);
    return { agent, target };
  });
}

/** Does something while there is one snapshot. @throws Error if that has been lost meanwhile */
export async function withSnapshot<T>({ agent }: ProtectedVolume, work: () => Promise<T>): Promise<T> {
  await agent.client.putSnapshot('vol', 'snapshot', {});
  try {
    const result = await work();
    const snapshot = await agent.client.getSnapshot('vol', 'snapshot');
    if (snapshot?.state !== 'Ready') throw new Error(`the snapshot was lost while measuring: ${snapshot?.reason}`);
    return result;
  } finally {
    await agent.client.deleteSnapshot('vol', 'snapshot');
  }
}
