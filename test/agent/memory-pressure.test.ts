import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

/** Flags of a task in /proc/PID/stat; source: include/linux/sched.h of the kernel. */
const PF_MEMALLOC_NOIO = 0x0008_0000;
const PF_LOCAL_THROTTLE = 0x0010_0000;

const capabilities = BigInt(`0x${/CapEff:\s+([0-9a-f]+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'}`);
const mayFlush = (capabilities & (1n << 24n)) !== 0n;

const guard = join(import.meta.dirname, '../../agent/memory-pressure.ts');
const log = join(import.meta.dirname, '../../common/log.ts');

/** A process that is guarded and then starts a worker thread, which uses the thread pool. */
const program = `
  import { readdirSync, readFileSync } from 'node:fs';
  import { stat } from 'node:fs/promises';
  import { Worker } from 'node:worker_threads';
  import { guardAgainstMemoryPressure } from ${JSON.stringify(guard)};
  import { silentLog } from ${JSON.stringify(log)};
  guardAgainstMemoryPressure(silentLog);
  const worker = new Worker('require("node:worker_threads").parentPort.postMessage("up"); setInterval(() => {}, 1000)', { eval: true, execArgv: [] });
  await new Promise((resolve) => worker.once('message', resolve));
  await stat('/');
  const flags = readdirSync('/proc/self/task')
    .map((task) => Number(readFileSync('/proc/self/task/' + task + '/stat', 'utf8').split(') ')[1].split(' ')[6]));
  console.log(JSON.stringify({ flags }));
  process.exit();
`;

async function guarded(): Promise<{ flags: number[] }> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module-typescript', '--eval', program]);
  return JSON.parse(stdout);
}

test.skipIf(!mayFlush)('the process and all of its threads are I/O flushers, those of V8 too', async () => {
  const { flags } = await guarded();
  const expected = PF_MEMALLOC_NOIO | PF_LOCAL_THROTTLE;
  expect(flags.length).toBeGreaterThan(1);
  for (const flag of flags) expect(flag & expected).toBe(expected);
});
