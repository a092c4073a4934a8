import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'understudy-layers-'));
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

/** What the rules say about a source tree: a line for each violation. */
async function violationsIn(files: Readonly<Record<string, string>>): Promise<string[]> {
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(directory, name)), { recursive: true });
    await writeFile(join(directory, name), content);
  }
  const program = join(root, 'node_modules/dependency-cruiser/bin/dependency-cruise.mjs');
  const folders = [...new Set(Object.keys(files).map((name) => name.split('/')[0] ?? ''))];
  const args = [program, '--config', join(root, '.dependency-cruiser.cjs'), '--output-type', 'json', ...folders];
  const output = await new Promise<string>((resolve, reject) => {
    execFile(process.execPath, args, { cwd: directory }, (error, stdout) => {
      if (stdout === '') reject(error);
      else resolve(stdout);
    });
  });
  const { summary }: { summary: Summary } = JSON.parse(output);
  expect(summary.totalCruised).toBeGreaterThanOrEqual(Object.keys(files).length);
  return summary.violations.map(({ rule, from, to }) => `${rule.name}: ${from} → ${to}`).toSorted();
}

interface Summary {
  readonly totalCruised: number;
  readonly violations: readonly {
    readonly rule: { readonly name: string };
    readonly from: string;
    readonly to: string;
  }[];
}

test('an import to the left is fine, also of a type', async () => {
  expect(
    await violationsIn({
      'agent/volume/a.ts':
        "import { b } from '../core/b.ts';\nimport type { V } from '../api/contract/v.ts';\nexport const a: V = b;\n",
      'agent/core/b.ts': 'export const b = 1;\n',
      'agent/api/contract/v.ts': 'export type V = number;\n',
      'operator/controllers/c.ts': "export type { V } from '../../agent/api/contract/v.ts';\n",
    }),
  ).toEqual([]);
});

test('an import to the right, of a neighbour or across is found, also of a type', async () => {
  expect(
    await violationsIn({
      'agent/core/a.ts': "import type { B } from '../volume/b.ts';\nexport type A = B;\n",
      'agent/volume/b.ts': 'export type B = 1;\n',
      'agent/api/c.ts': "export { d } from '../attach/d.ts';\n",
      'agent/attach/d.ts': 'export const d = 1;\n',
      'operator/kube/e.ts': "export const e = import('../../agent/attach/d.ts');\n",
      'common/f.ts': "import '../agent/attach/d.ts';\n",
    }),
  ).toEqual([
    'agent-api-imports-only-layers-left-of-it: agent/api/c.ts → agent/attach/d.ts',
    'agent-core-imports-only-what-is-left-of-it: agent/core/a.ts → agent/volume/b.ts',
    'common-stands-alone: common/f.ts → agent/attach/d.ts',
    'operator-kube-imports-only-what-it-may: operator/kube/e.ts → agent/attach/d.ts',
    'operator-sees-only-the-contract-of-the-agent: operator/kube/e.ts → agent/attach/d.ts',
  ]);
});

test('circles and files that are not there are found', async () => {
  expect(
    await violationsIn({
      'common/a.ts': "export { b } from './b.ts';\n",
      'common/b.ts': "import './a.ts';\nexport const b = 1;\n",
    }),
  ).toEqual(['no-cycles: common/a.ts → common/b.ts']);
  expect(await violationsIn({ 'common/a.ts': "export { b } from './gone.ts';\n", 'common/b.ts': '' })).toEqual([
    'no-unresolved: common/a.ts → ./gone.ts',
  ]);
});
