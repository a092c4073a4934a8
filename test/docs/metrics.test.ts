import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { AgentMetrics } from '../../agent/api/metrics.ts';
import { PrometheusMetrics } from '../../operator/prometheus-metrics.ts';

interface Row {
  readonly name: string;
  readonly type: string;
  readonly labels: readonly string[];
  readonly meaning: string;
}

const page = await readFile(path.join(import.meta.dirname, '../../docs/metrics.md'), 'utf8');

/** The rows about metrics of a section of the page. */
function documented(section: string): Row[] {
  const [, behind = ''] = page.split(`\n## ${section}\n`);
  const [text = ''] = behind.split('\n## ');
  return [...text.matchAll(/^\| `(understudy_\w+)` +\| (\w+) +\| (.*?) +?\| (.*?) +\|$/gm)].map(
    ([, name = '', type = '', labels = '', meaning = '']) => ({
      name,
      type,
      labels: [...labels.matchAll(/`(\w+)`/g)].map(([, label = '']) => label),
      meaning,
    }),
  );
}

/** The metrics of ours in a registry; those of Node.js are not documented. */
function registered(registry: Registry): Row[] {
  return registry
    .getMetricsAsArray()
    .map((metric): Row => {
      const field = (name: string): unknown => Reflect.get(metric, name);
      const labels = field('labelNames') as string[];
      return { name: String(field('name')), type: String(field('type')), labels, meaning: String(field('help')) };
    })
    .filter(({ name }) => name.startsWith('understudy_'));
}

test.each([
  ['Agent', new AgentMetrics('1.2.3').registry],
  ['Operator', new PrometheusMetrics('1.2.3').registry],
] as const)('docs/metrics.md lists what the registry of the %s has', (section, registry) => {
  const found = registered(registry as Registry);
  expect(found.length).toBeGreaterThan(10);
  expect(documented(section)).toEqual(found);
});

test.each([new AgentMetrics('1.2.3').registry, new PrometheusMetrics('1.2.3').registry])(
  'names end in their unit, those of counters in _total',
  (registry) => {
    for (const { name, type } of registered(registry as Registry)) {
      expect(name.endsWith('_total')).toBe(type === 'counter');
      if (type === 'histogram') expect(name).toMatch(/_(seconds|bytes)$/);
      expect(name).not.toMatch(/_(ms|milliseconds|kib|mib|percent)$/);
    }
  },
);
