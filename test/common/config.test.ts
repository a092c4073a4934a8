import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { loadConfig, parseConfig } from '../../common/config.ts';
import { UnderstudyError } from '../../common/errors.ts';

const schema = z.strictObject({
  name: z.string().regex(/^[a-z]+$/, 'expected lower-case letters'),
  attempts: z.int().min(1).max(5).default(3),
  mode: z.enum(['fast', 'safe']).default('safe'),
  secure: z.boolean().optional(),
  size: z.union([z.number(), z.string()]).optional(),
  pools: z
    .array(z.strictObject({ name: z.string().min(1), directory: z.string().optional() }))
    .max(2)
    .default([]),
  api: z.strictObject({ listen: z.string(), timeoutMs: z.number().positive().optional() }).optional(),
  limits: z.record(z.string(), z.number()).optional(),
});

/** The lines of the message, without the first, which names the file. */
function mistakesIn(text: string): string[] {
  try {
    parseConfig(text, 'agent.yaml', schema);
  } catch (error) {
    if (!(error instanceof UnderstudyError)) throw error;
    expect(error.code).toBe('Invalid');
    const [first, ...rest] = error.message.split('\n');
    expect(first).toBe('agent.yaml is not a valid configuration:');
    return rest.map((line) => line.trim());
  }
  throw new Error('expected the configuration to be refused');
}

describe('a valid configuration', () => {
  test('is returned with its defaults', () => {
    expect(parseConfig('name: demo\n', 'x', schema)).toEqual({ name: 'demo', attempts: 3, mode: 'safe', pools: [] });
  });

  test('may be empty when nothing is required', () => {
    expect(parseConfig('# nothing\n', 'x', z.strictObject({ a: z.number().default(1) }))).toEqual({ a: 1 });
  });

  test('may be JSON, and may use anchors', () => {
    expect(parseConfig('{"name": "demo", "size": "10Gi"}', 'x', schema)).toMatchObject({ name: 'demo', size: '10Gi' });
    const text = 'name: &n demo\npools:\n  - { name: *n }\n';
    expect(parseConfig(text, 'x', schema).pools).toEqual([{ name: 'demo' }]);
  });
});

describe('each mistake is named with its line, its key, what was expected and what is there', () => {
  test.each([
    ['a missing key', 'attempts: 2', ['name: missing: expected a string']],
    ['an empty file', '', ['name: missing: expected a string']],
    ['another type', 'name: demo\nattempts: many', ['line 2: attempts: expected a number, got "many"']],
    ['a fraction', 'name: demo\nattempts: 1.5', ['line 2: attempts: expected a whole number, got 1.5']],
    ['too small a number', 'name: demo\nattempts: 0', ['line 2: attempts: expected at least 1, got 0']],
    ['too large a number', 'name: demo\nattempts: 9', ['line 2: attempts: expected at most 5, got 9']],
    [
      'not above a bound',
      'name: a\napi: { listen: b, timeoutMs: 0 }',
      ['line 2: api.timeoutMs: expected more than 0, got 0'],
    ],
    ['an unknown choice', 'name: demo\nmode: slow', ['line 2: mode: expected "fast" or "safe", got "slow"']],
    ['a quoted boolean', 'name: demo\nsecure: "yes"', ['line 2: secure: expected true or false, got "yes"']],
    ["a schema's own message", 'name: Demo', ['line 1: name: expected lower-case letters, got "Demo"']],
    ['no branch of a union', 'name: demo\nsize: [1]', ['line 2: size: expected a number or a string, got a list']],
    ['an object for a list', 'name: demo\npools: { name: a }', ['line 2: pools: expected a list, got an object']],
    [
      'an empty string',
      'name: demo\npools:\n  - name: ""',
      ['line 3: pools[0].name: expected at least 1 character, got ""'],
    ],
    ['a null', 'name: demo\nsecure:', ['line 2: secure: expected true or false, got null']],
    ['a list for everything', '- name', ['line 1: expected an object, got a list']],
    ['a scalar for everything', 'hello', ['line 1: expected an object, got "hello"']],
    [
      'a key in a list',
      'name: demo\npools:\n  - { name: a }\n  - { directory: /x }',
      ['line 4: pools[1].name: missing: expected a string'],
    ],
    ['a strange key', 'name: demo\nlimits: { "a b": x }', ['line 2: limits["a b"]: expected a number, got "x"']],
  ])('%s', (_, text, mistakes) => {
    expect(mistakesIn(text)).toEqual(mistakes);
  });

  test('too many entries', () => {
    expect(mistakesIn('name: demo\npools: [{ name: a }, { name: b }, { name: c }]')).toEqual([
      'line 2: pools: expected at most 2 entries, got a list',
    ]);
  });

  test('several at once, in the order of their lines', () => {
    expect(mistakesIn('mode: slow\nattempts: x\n\nname: 7')).toEqual([
      'line 1: mode: expected "fast" or "safe", got "slow"',
      'line 2: attempts: expected a number, got "x"',
      'line 4: name: expected a string, got 7',
    ]);
  });

  test('a long value is shortened', () => {
    const [mistake] = mistakesIn(`name: ${'X'.repeat(500)}`);
    expect(mistake?.length).toBeLessThan(150);
  });
});

describe('an unknown key is refused', () => {
  test.each([
    ['nmae: demo\nname: a', 'line 1: nmae: unknown key "nmae"; did you mean "name"?'],
    [
      'name: a\napi:\n  listen: b\n  timeoutms: 3',
      'line 4: api.timeoutms: unknown key "timeoutms"; did you mean "timeoutMs"?',
    ],
    [
      'name: a\npools: [{ name: b, directroy: c }]',
      'line 2: pools[0].directroy: unknown key "directroy"; did you mean "directory"?',
    ],
    [
      'name: a\napi: { listen: b, colour: red }',
      'line 2: api.colour: unknown key "colour"; known here: listen, timeoutMs',
    ],
  ])('%j', (text, mistake) => {
    expect(mistakesIn(text)).toEqual([mistake]);
  });

  test('each of several on a line of its own', () => {
    expect(mistakesIn('name: a\nmods: fast\nsecured: true')).toEqual([
      'line 2: mods: unknown key "mods"; did you mean "mode"?',
      'line 3: secured: unknown key "secured"; did you mean "secure"?',
    ]);
  });
});

describe('what is not YAML is refused', () => {
  test.each([
    ['name: [a', 'line 1: not valid YAML:'],
    ['name: a\nname: b', 'line 2: not valid YAML: Map keys must be unique'],
    ['name: a\n---\nname: b', 'line 2: not valid YAML:'],
    ['name: !secret a', 'line 1: not valid YAML: Unresolved tag'],
    ['name: *nothing', 'not valid YAML: Unresolved alias'],
  ])('%j', (text, beginning) => {
    expect(mistakesIn(text)[0]).toContain(beginning);
  });

  test('aliases that multiply are refused', () => {
    const rows = Array.from({ length: 12 }, (_, row) => `r${row + 1}: &r${row + 1} [${`*r${row},`.repeat(9)}]`);
    expect(mistakesIn(`r0: &r0 [x]\n${rows.join('\n')}`)[0]).toContain('not valid YAML');
  });
});

describe('the file', () => {
  test('is read', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'understudy-config-'));
    try {
      const path = join(directory, 'agent.yaml');
      await writeFile(path, 'name: demo\nmode: slow\n');
      await expect(loadConfig(path, schema)).rejects.toThrow(
        `${path} is not a valid configuration:\n  line 2: mode: expected "fast" or "safe", got "slow"`,
      );
      await writeFile(path, 'name: demo\n');
      expect(await loadConfig(path, schema)).toMatchObject({ name: 'demo' });
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  test('is named when it cannot be read', async () => {
    await expect(loadConfig('/nowhere/agent.yaml', schema)).rejects.toMatchObject({
      code: 'Invalid',
      message: 'cannot read the configuration file /nowhere/agent.yaml',
    });
  });
});
