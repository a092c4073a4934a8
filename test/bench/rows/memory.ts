import type { Bench } from '../bench-context.ts';
import type { Measured, Row } from '../row.ts';
import { BenchAgent } from '../stacks/agent.ts';

const mebibyte = 1024 * 1024;

async function measureIdle(bench: Bench): Promise<Measured> {
  const count = bench.options.quick ? 20 : 100;
  const agent = await BenchAgent.start(bench, { node: 'm' });
  const before = agent.statusBytes('VmRSS');
  for (let index = 0; index < count; index += 1) {
    await agent.client.putVolume(`v${index}`, {
      ...{ size: 1024 * mebibyte, pool: 'main', role: 'primary', epoch: 1, provisioning: 'sparse' },
      buffer: { pool: 'buffer', capacity: 1024 * mebibyte },
    });
  }
  const perVolume = (agent.statusBytes('VmRSS') - before) / count / mebibyte;
  bench.sample('ours', 0, { count, beforeBytes: before, afterBytes: agent.statusBytes('VmRSS') });
  const base = `the agent without volumes ${(before / mebibyte).toFixed(0)} MiB`;
  return { unit: 'MiB', ours: [perVolume], notes: [`lower is better; ${count} volumes in one agent; ${base}`] };
}

export const memoryRows: readonly Row[] = [
  {
    name: 'idle-memory',
    what: 'resident memory per idle volume',
    bar: { atMost: 20 },
    measure: measureIdle,
  },
];
