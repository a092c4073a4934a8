import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, realpath, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { promisify } from 'node:util';
import { projectDirectory } from '../support/project.ts';
import { makeDebianRoot } from './debian-root.ts';
import { readDockerfile } from './dockerfile.ts';

const run = promisify(execFile);
const makeImage = join(projectDirectory, 'test/cluster/rig/make-image');

/** Names under which the images are loaded; there is no registry, so the tags are not `latest`. */
export const understudyImage = { repository: 'local/understudy', tag: 'test' };
export const workloadImage = 'local/workload:test';
const workloadPackages = ['postgresql-15', 'postgresql-client-15', 'restic', 'ca-certificates', 'tar'];

const searchPath = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const compile = `for (const part of ['agent', 'operator']) await import('/opt/understudy/bin/' + part + '-service.ts')`;

/** Builds what the Dockerfile describes, without Docker: its packages from this machine, the project, and Node.js. */
export async function buildUnderstudyImage(archive: string): Promise<void> {
  const { packages, sources, environment, user } = await readDockerfile();
  await withTemporaryRoot(async (root) => {
    await makeDebianRoot(root, packages);
    const application = join(root, 'opt/understudy');
    await mkdir(application, { recursive: true });
    for (const source of sources) {
      await cp(join(projectDirectory, source), join(application, source), { recursive: true });
    }
    await copyProductionModules(join(application, 'node_modules'));
    await mkdir(join(root, 'usr/local/bin'), { recursive: true });
    await cp(join(projectDirectory, 'node_modules/node/bin/node'), join(root, 'usr/local/bin/node'), {
      dereference: true,
    });
    await symlink('/opt/understudy/bin/understudy.ts', join(root, 'usr/local/bin/understudy'));
    const cache = environment.NODE_COMPILE_CACHE;
    if (cache === undefined) throw new Error('expected the Dockerfile to set NODE_COMPILE_CACHE');
    // Each user has a folder of its own in it, which only that user can make.
    await mkdir(join(root, cache), { recursive: true });
    await run('chmod', ['1777', join(root, cache)]);
    for (const owner of ['0:0', user]) {
      const inRoot = ['--userspec', owner, root, '/usr/bin/env', '-i', searchPath, `NODE_COMPILE_CACHE=${cache}`];
      await run('chroot', [...inRoot, 'node', '--input-type=module', '-e', compile]);
    }
    await run('chmod', ['755', join(root, cache)]);
    const variables = [searchPath, ...Object.entries(environment).map(([key, value]) => `${key}=${value}`)];
    const { repository, tag } = understudyImage;
    await pack(root, `${repository}:${tag}`, archive, ['understudy'], variables);
  });
}

/** A database and a backup program, for the pods of users. */
export async function buildWorkloadImage(archive: string): Promise<void> {
  await withTemporaryRoot(async (root) => {
    await makeDebianRoot(root, workloadPackages);
    await pack(root, workloadImage, archive, undefined, [`${searchPath}:/usr/lib/postgresql/15/bin`]);
  });
}

/** The modules that `npm ci --omit=dev` would install, from those that are installed here. */
async function copyProductionModules(target: string): Promise<void> {
  const modules = await realpath(join(projectDirectory, 'node_modules'));
  const lock = JSON.parse(await readFile(join(projectDirectory, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean; devOptional?: boolean; optional?: boolean }>;
  };
  const wanted = Object.entries(lock.packages)
    // A module in another's folder comes with that.
    .filter(
      ([path, { dev, devOptional }]) => /^node_modules\/(?!.*\/node_modules\/)/.test(path) && !dev && !devOptional,
    )
    // Optional ones may be for other systems than this.
    .filter(([path, { optional }]) => !optional || existsSync(join(projectDirectory, path)))
    .map(([path]) => relative('node_modules', path));
  await mkdir(target, { recursive: true });
  const patterns = ['*.d.ts', '*.d.cts', '*.d.mts', '*.map'].map((pattern) => `--exclude=${pattern}`);
  const copy = 'set -o pipefail; from=$1 to=$2; shift 2; tar -C "$from" -c "$@" | tar -C "$to" -x';
  await run('bash', ['-c', copy, 'copy', modules, target, ...patterns, ...wanted]);
}

async function pack(
  root: string,
  name: string,
  archive: string,
  entrypoint: readonly string[] | undefined,
  environment: readonly string[],
): Promise<void> {
  await run(makeImage, [root, name, archive, JSON.stringify(entrypoint ?? null), JSON.stringify(environment)]);
}

async function withTemporaryRoot<T>(use: (root: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'understudy-image-'));
  try {
    return await use(join(directory, 'root'));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
