import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { snapshots } from '../../operator/resources/snapshot.ts';
import { validateSpec } from '../../operator/resources/validate-spec.ts';

const folder = path.join(import.meta.dirname, '../../examples/hooks');
const files = readdirSync(folder);

describe.each(files)('examples/hooks/%s', (file) => {
  const manifest = parse(readFileSync(path.join(folder, file), 'utf8')) as { kind: string; spec: unknown };

  test('is a Snapshot with hooks, whose scripts are scripts', () => {
    const spec = validateSpec(snapshots, manifest.spec);
    if (!spec.ok) throw new Error(JSON.stringify(spec.violations));
    expect(manifest.kind).toBe('Snapshot');
    const { pre, post } = spec.value.consistency.hooks ?? { pre: [], post: [] };
    expect(pre).not.toEqual([]);
    for (const { command } of [...pre, ...post]) {
      const [program, flag, script = ''] = command;
      if (program !== 'sh' || flag !== '-c') continue;
      expect(spawnSync('sh', ['-n', '-c', script], { encoding: 'utf8' }).stderr).toBe('');
    }
  });

  test('releases whatever it has held', () => {
    const spec = validateSpec(snapshots, manifest.spec);
    const { pre = [], post = [] } = (spec.ok && spec.value.consistency.hooks) || {};
    for (const { command, hold } of pre) {
      const text = command.join(' ');
      if (/lock/i.test(text))
        expect(hold !== undefined || post.some((hook) => hook.command.join(' ').includes('Unlock'))).toBe(true);
      if (hold !== undefined) expect(text).toMatch(/read -r _/);
    }
  });
});
