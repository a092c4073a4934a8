import { execFile, execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, realpathSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

const repository = dirname(dirname(import.meta.dirname));
const boot = join(import.meta.dirname, 'boot');
const run = promisify(execFile);

/** Fetches what booting needs. Resolves with the reason if it cannot be had here. */
export function machineImpossible(): string | undefined {
  try {
    execFileSync(boot, ['-p'], { stdio: 'pipe' });
    return undefined;
  } catch (error) {
    const stderr = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : String(error);
    return `no virtual machine: ${stderr.split('\n').at(-1)}`;
  }
}

/**
 * Makes a folder of what the guest runs: the agent and the test programs, each bundled into a few files since opening one
 * takes the guest long; the native library that cannot be bundled; Node; and all of it compiled.
 */
export async function stage(folder: string): Promise<void> {
  const bin = join(folder, 'bin');
  await bundle('bin/understudy.ts', bin);
  await bundle('agent/volume/engine-worker.ts', bin);
  // The agent looks for it under its own name.
  renameSync(join(bin, 'engine-worker.mjs'), join(bin, 'engine-worker.ts'));
  for (const program of ['attach', 'wide-area', 'warm']) await bundle(`test/vm/${program}.ts`, folder);
  for (const path of ['package.json', 'node_modules/koffi', 'node_modules/@koromix']) {
    if (existsSync(join(repository, path))) cpSync(join(repository, path), join(folder, path), { recursive: true });
  }
  cpSync(realpathSync(process.execPath), join(folder, 'node'));
  cpSync(join(import.meta.dirname, 'run.sh'), join(folder, 'run.sh'));
  mkdirSync(join(folder, 'files'));
  await run(join(folder, 'node'), ['warm.mjs', join(folder, 'files')], {
    cwd: folder,
    env: { ...process.env, NODE_COMPILE_CACHE: join(folder, 'compiled'), UNDERSTUDY: join(bin, 'understudy.mjs') },
  });
}

async function bundle(entry: string, folder: string): Promise<void> {
  const rolldown = join(repository, 'node_modules', '.bin', 'rolldown');
  const format = ['--platform', 'node', '--format', 'esm', '--external', 'koffi'];
  await run(rolldown, [entry, ...format, '--dir', folder, '--entry-file-names', '[name].mjs'], { cwd: repository });
}

/** Boots a machine with a staged folder and runs a program of it. What it writes to /out is in `out`. */
export async function runInMachine(program: string, options: { staged: string; out: string; seconds: number }) {
  const { staged, out, seconds } = options;
  const args = ['-t', String(seconds), '-o', out, '-d', staged, join(staged, 'run.sh'), staged, program];
  await run(boot, args, { maxBuffer: 64 * 1024 * 1024 }).catch((error: unknown) => {
    // What went wrong stands in `out`; that it ended at all is what counts here.
    if (!existsSync(join(out, 'status'))) throw error;
  });
}
