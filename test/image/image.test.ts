import { execFileSync, spawnSync } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  type InstalledPackage,
  packageClosure,
  packageFormat,
  parsePackages,
} from '../cluster/image/debian-packages.ts';
import { parseDockerfile, readDockerfile } from '../cluster/image/dockerfile.ts';
import { projectDirectory } from '../cluster/support/project.ts';
import { isInstalled } from '../support/programs.ts';

describe('the Dockerfile', () => {
  test('is understood by what builds the same image for tests', async () => {
    const { packages, sources, environment, user } = await readDockerfile();
    expect(packages).toEqual([...packages].sort());
    expect(packages).toContain('libnbd-bin');
    expect(sources).toEqual([
      'package.json',
      'package-lock.json',
      'tsconfig.json',
      'bin',
      'common',
      'agent',
      'operator',
    ]);
    expect(environment).toEqual({ NODE_COMPILE_CACHE: '/var/cache/understudy' });
    expect(user).toBe('65532:65532');
  });

  test('copies nothing that .dockerignore keeps away', async () => {
    const allowed = readFileSync(join(projectDirectory, '.dockerignore'), 'utf8').split('\n');
    for (const source of (await readDockerfile()).sources) expect(allowed).toContain(`!${source}`);
  });

  test('has its base pinned', () => {
    const text = readFileSync(join(projectDirectory, 'Dockerfile'), 'utf8');
    expect(text).toMatch(/^ARG BASE=debian:[a-z]+-slim@sha256:[0-9a-f]{64}$/m);
    // biome-ignore lint/suspicious/noTemplateCurlyInString: as the Dockerfile has it
    expect(text.match(/^FROM .*$/gm)).toEqual(['FROM ${BASE} AS build', 'FROM ${BASE}']);
  });

  test('installs the package of every program that the agent runs', async ({ skip }) => {
    skip(!isInstalled('dpkg-query'), 'not a Debian machine');
    const { packages } = await readDockerfile();
    const closure = new Set(packageClosure(parsePackages(dpkg('-W', '-f', packageFormat)), packages));
    const programs = programsOfAgent();
    expect(programs.size).toBeGreaterThan(8);
    const found = packagesOf(programs);
    for (const program of programs) expect(closure, program).toContain(found.get(program));
  });

  test.each([
    ['one stage', 'FROM x\nRUN apt-get install -y a && true\nUSER 1:1\n'],
    ['no packages', 'FROM x\nFROM y\nUSER 1:1\n'],
    ['no user', 'FROM x\nFROM y\nRUN apt-get install -y a && true\n'],
  ])('with %s is refused', (_what, text) => {
    expect(() => parseDockerfile(text)).toThrow(/expected a Dockerfile/);
  });
});

describe('the packages of an image', () => {
  const entry = (name: string, needs: string[][] = [], more: Partial<InstalledPackage> = {}): InstalledPackage => ({
    name,
    essential: false,
    provides: [],
    needs,
    ...more,
  });

  test('are those wanted, the essential ones, and all that they need', () => {
    const installed = [
      entry('base', [], { essential: true }),
      entry('wanted', [['alternative', 'chosen'], ['virtual']]),
      entry('chosen', [['wanted']]),
      entry('provider', [], { provides: ['virtual'] }),
      entry('other'),
    ];
    expect(packageClosure(installed, ['wanted'])).toEqual(['base', 'chosen', 'provider', 'wanted']);
  });

  test('that are not installed are named', () => {
    expect(() => packageClosure([entry('a', [['b', 'c']])], ['a'])).toThrow('a needs b or c, not installed');
    expect(() => packageClosure([], ['a'])).toThrow('the package a is not installed');
  });

  test('are read from what dpkg-query prints', () => {
    const text =
      'installed\tmount\tyes\tx (= 1), y\tlibc6 (>= 2.3)\tlibmount1 (>= 2), a:any | b\nconfig-files\told\tno\t\t\t\n';
    expect(parsePackages(text)).toEqual([
      { name: 'mount', essential: true, provides: ['x', 'y'], needs: [['libc6'], ['libmount1'], ['a', 'b']] },
    ]);
  });
});

/** The names that stand in the source, and those that are composed. */
function programsOfAgent(): Set<string> {
  const programs = new Set(['mkfs.ext4', 'mkfs.xfs', 'mkfs.btrfs']);
  for (const file of globSync(join(projectDirectory, 'agent/**/*.ts'))) {
    const calls = readFileSync(file, 'utf8').matchAll(
      /ommands\.(?:run|find|startDaemon|startDialogue)\(\s*'([a-z0-9._]+)'/g,
    );
    for (const [, program = ''] of calls) programs.add(program);
  }
  return programs;
}

/** The package of each program, as far as there is one. Packages name their files with and without /usr. */
function packagesOf(programs: Iterable<string>): Map<string, string> {
  const folders = ['/usr/sbin', '/usr/bin', '/sbin', '/bin'];
  const places = [...programs].flatMap((program) => folders.map((folder) => `${folder}/${program}`));
  // It fails because of those that are not there, and prints the others all the same.
  const { stdout } = spawnSync('dpkg-query', ['-S', ...places], { encoding: 'utf8' });
  const lines = stdout.split('\n').map((line) => /^([^:,]+).*: .*\/([^/]+)$/.exec(line));
  return new Map(lines.flatMap((match) => (match ? [[match[2] ?? '', match[1] ?? '']] : [])));
}

function dpkg(...args: string[]): string {
  return execFileSync('dpkg-query', args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    maxBuffer: 64 << 20,
  });
}
