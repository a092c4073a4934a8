import { waitFor } from '../../support/wait-for.ts';
import type { Bench } from '../bench-context.ts';
import { run } from '../command.ts';
import type { NbdTarget } from '../fio.ts';
import type { Measured, Row } from '../row.ts';
import { BenchAgent } from '../stacks/agent.ts';
import { fill } from '../stacks/fill.ts';

const chunkBytes = 64 * 1024;

/** From the start of an agent, the last of which was killed, until its volume with so many preserved chunks is ready. */
async function measureOpening(bench: Bench): Promise<Measured> {
  const chunks = bench.options.quick ? 10_000 : 100_000;
  const size = chunks * chunkBytes;
  const agent = await BenchAgent.start(bench, { node: 'o' });
  const target = await createVolume(agent, 'full', size);
  const empty = await BenchAgent.start(bench, { node: 'e' });
  await createVolume(empty, 'empty', size);
  await fill(bench, target, size);
  await agent.client.putSnapshot('full', 's', {});
  await fill(bench, target, size);
  const used = (await agent.volume('full')).buffer?.usedBytes ?? 0;
  const [ours, theirs]: [number[], number[]] = [[], []];
  for (let round = 0; round < bench.options.rounds; round += 1) {
    ours.push(await restart(agent, 'full'));
    theirs.push(await restart(empty, 'empty'));
    bench.sample('ours', round, { startMs: ours.at(-1), emptyMs: theirs.at(-1) });
  }
  const snapshot = (await agent.volume('full')).snapshots.find(({ name }) => name === 's');
  if (snapshot?.state !== 'Ready') throw new Error(`the snapshot is ${snapshot?.state ?? 'gone'}: ${snapshot?.reason}`);
  const held = `${chunks} chunks, ${(used / 1024 ** 3).toFixed(1)} GiB in the buffer`;
  return { unit: 'ms', ours, theirs, notes: [`lower is better; ${held}; the start of the process included`] };
}

async function createVolume(agent: BenchAgent, name: string, size: number): Promise<NbdTarget> {
  const buffer = { pool: 'buffer', capacity: size + 1024 ** 3 };
  const volume = { size, pool: 'main', role: 'primary', epoch: 1, provisioning: 'sparse', buffer } as const;
  const { nbd } = await agent.client.putVolume(name, volume);
  return { kind: 'nbd', socket: nbd, exportName: name };
}

async function restart(agent: BenchAgent, volume: string): Promise<number> {
  await agent.stop('SIGKILL');
  await run(['sync', '--file-system', agent.folder]);
  const startedMs = performance.now();
  await agent.start();
  const isReady = async () => (await agent.client.getVolume(volume))?.state === 'Ready';
  await waitFor(isReady, { timeoutMs: 120_000, intervalMs: 5, what: `volume ${volume} to be ready` });
  return performance.now() - startedMs;
}

export const bufferOpenRows: readonly Row[] = [
  {
    name: 'buffer-open',
    what: 'from the start of an agent that was killed until its volume with a snapshot of 100,000 preserved chunks is ready',
    against: 'the same with an empty buffer',
    measure: measureOpening,
  },
];
