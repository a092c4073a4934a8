import { execFile } from 'node:child_process';
import { lstat, mkdir, readlink, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { packageClosure, packageFormat, parsePackages } from './debian-packages.ts';

const run = promisify(execFile);
const maxBuffer = 64 << 20;

/** Folders that are links into /usr on a machine of today. */
const mergedFolders = ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32'];

const passwd = `root:x:0:0:root:/root:/bin/bash
postgres:x:999:999::/var/lib/postgresql:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
`;
const group = 'root:x:0:\npostgres:x:999:\nnogroup:x:65534:\n';

/**
 * Fills `directory` with a small Debian system that has the packages `wanted`: the files of these packages, and of all they
 * need, copied from this machine. It is what debootstrap would make, in seconds and without a network; what packages do when
 * they are installed is left out but for the cache of the dynamic linker.
 */
export async function makeDebianRoot(directory: string, wanted: readonly string[]): Promise<void> {
  const { stdout } = await run('dpkg-query', ['-W', '-f', packageFormat], { maxBuffer });
  const packages = packageClosure(parsePackages(stdout), wanted);
  await mkdir(directory, { recursive: true });
  for (const folder of mergedFolders) {
    const link = await readlink(join('/', folder)).catch(() => undefined);
    if (link === undefined) continue;
    await mkdir(join(directory, link), { recursive: true });
    await symlink(link, join(directory, folder));
  }
  await copyFiles(await filesOf(packages), directory);
  for (const [path, content] of Object.entries({ passwd, group, 'resolv.conf': '', hosts: '' })) {
    await writeFile(join(directory, 'etc', path), content);
  }
  for (const folder of ['dev', 'proc', 'sys', 'tmp', 'root']) await mkdir(join(directory, folder), { recursive: true });
  await run('chmod', ['1777', join(directory, 'tmp')]);
  await run('ldconfig', ['-r', directory]);
}

/** Files, links and folders; what is for people to read is left out. */
async function filesOf(packages: readonly string[]): Promise<string[]> {
  const { stdout } = await run('dpkg-query', ['-L', ...packages], { maxBuffer });
  const superfluous = /^\/usr\/share\/(doc|man|info|locale|lintian|bug|perl|i18n)(\/|$)/;
  const paths = new Set(stdout.split('\n').filter((path) => path.startsWith('/') && path !== '/.'));
  const present: string[] = [];
  for (const path of paths) {
    if (superfluous.test(path)) continue;
    // Configuration that was removed, and files that another package diverted.
    const isThere = await lstat(path).then(
      () => true,
      () => false,
    );
    if (isThere) present.push(path.slice(1));
  }
  return present;
}

/** Folders come without what else is in them, and links to folders that are there already stay links. */
async function copyFiles(paths: readonly string[], directory: string): Promise<void> {
  const list = `${directory}.files`;
  await writeFile(list, `${paths.join('\0')}\0`);
  await run('bash', [
    '-c',
    'set -o pipefail; tar -C / --no-recursion --null -T "$1" -c | tar -C "$2" --keep-directory-symlink -x; rm "$1"',
    'copy',
    list,
    directory,
  ]);
}
