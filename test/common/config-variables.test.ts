// biome-ignore-all lint/suspicious/noTemplateCurlyInString: that is what these tests are about
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { parseConfig } from '../../common/config.ts';

const schema = z.strictObject({
  name: z.string(),
  size: z.string().optional(),
  pools: z.array(z.strictObject({ name: z.string() })).optional(),
  api: z.strictObject({ listen: z.string() }).optional(),
});

const environment = { NODE: 'demo', IP: '10.0.0.7', EMPTY: '', NESTED: '${NODE}' };
const read = (text: string) => parseConfig(text, 'agent.yaml', schema, environment);

describe('variables in a configuration', () => {
  test('are replaced in texts, wherever they stand', () => {
    expect(read('name: ${NODE}\napi: { listen: "${IP}:7071" }\npools: [{ name: "a-${NODE}-${IP}" }]\n')).toEqual({
      name: 'demo',
      api: { listen: '10.0.0.7:7071' },
      pools: [{ name: 'a-demo-10.0.0.7' }],
    });
  });

  test('may be empty, and are not looked for in what they stand for', () => {
    expect(read('name: demo\nsize: "${EMPTY}"\n').size).toBe('');
    expect(read('name: demo\nsize: "${NESTED}"\n').size).toBe('${NODE}');
  });

  test('stay as they are behind a second dollar sign', () => {
    expect(read('name: demo\nsize: "$${NODE} costs $5"\n').size).toBe('${NODE} costs $5');
  });

  test('that are not set are mistakes, each named with its line', () => {
    expect(() => read('name: ${NODE}\napi:\n  listen: "${HOST}:${PORT}"\n')).toThrow(
      [
        'agent.yaml is not a valid configuration:',
        'line 3: api.listen: the environment variable HOST is not set',
        'line 3: api.listen: the environment variable PORT is not set',
      ].join('\n  '),
    );
  });
});
