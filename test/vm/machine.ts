import { execFile, execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, realpathSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
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
 * Makes a folder of what the guest's programs consist of: the sources, their dependencies, Node, and all of it compiled,
 * which would take the guest minutes.
 */
export async function stage(folder: string): Promise<void> {
  const { stdout } = await run('npm', ['ls', '--omit=dev', '--parseable', '--all'], { cwd: repository });
  const packages = stdout.split('\n').filter((path) => path !== '' && path !== repository);
  const sources = ['agent', 'common', 'bin', 'operator', 'package.json', 'test/support', 'test/vm'];
  for (const path of [...sources, ...packages.map((path) => relative(repository, path))]) {
    const from = join(repository, path);
    // An optional package for another system is listed and not there; one within another has been copied with it.
    if (existsSync(from) && !existsSync(join(folder, path))) cpSync(from, join(folder, path), { recursive: true });
  }
  mkdirSync(join(folder, 'files'));
  cpSync(realpathSync(process.execPath), join(folder, 'node'));
  await run(join(folder, 'node'), ['test/vm/warm.ts', join(folder, 'files')], {
    cwd: folder,
    env: { ...process.env, NODE_COMPILE_CACHE: join(folder, 'compiled') },
  });
}

/** Boots a machine with a staged folder and runs a script of it. What it writes to /out is in `out`. */
export async function runInMachine(script: string, options: { staged: string; out: string; seconds: number }) {
  const { staged, out, seconds } = options;
  const args = ['-t', String(seconds), '-o', out, '-d', staged, join(staged, script), staged];
  await run(boot, args, { maxBuffer: 64 * 1024 * 1024 }).catch((error: unknown) => {
    // What went wrong stands in `out`; that it ended at all is what counts here.
    if (!existsSync(join(out, 'status'))) throw error;
  });
}
