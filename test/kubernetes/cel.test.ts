import { beforeAll, describe, expect, inject, test } from 'vitest';
import { type AnyCustomResource, customResources } from '../../operator/resources/all-kinds.ts';
import { hasCelQuantities, installCrds } from './support/crds.ts';
import { type Kubectl, kubectlOf, sharedControlPlane } from './support/kubectl.ts';
import { type RuleBreaker, ruleBreakers } from './support/rule-breakers.ts';

const plane = inject('controlPlane');
const old = 'unavailable' in plane || hasCelQuantities(plane.version) ? undefined : plane.version;

/** What the CustomResourceDefinitions say between fields, evaluated by a real API server; the operator must agree. */
describe.skipIf('unavailable' in plane || old)(
  `rules in CEL${old ? ` (skipped: ${old} has no quantities)` : ''}`,
  () => {
    let kubectl: Kubectl;

    beforeAll(async () => {
      const cluster = sharedControlPlane();
      kubectl = kubectlOf(cluster);
      await installCrds(kubectl, cluster.version);
    });

    describe.each(customResources.map((resource) => [resource.kind, resource] as const))('%s', (kind, resource) => {
      const breakers = ruleBreakers[kind] ?? [];

      test('has something here that breaks each of its rules', () => {
        const rules = resource.rules.filter(({ cel }) => cel !== undefined);
        const untried = rules.filter((rule) => !breakers.some((breaker) => breaks(rule, resource, breaker)));
        expect(untried.map(messageOf)).toEqual([]);
      });

      test.each(breakers.map((breaker, index) => [index, breaker.field, breaker] as const))(
        '%i: what breaks the rule of %s is refused, and what breaks none is taken',
        async (index, field, breaker) => {
          const name = `${resource.singular}-${index}`;
          const { spec, becomes } = breaker;
          if (becomes === undefined) {
            expectRefusal(
              await kubectl.try(['create', '-f', '-'], manifestOf(resource, name, spec)),
              resource,
              breaker,
            );
            return;
          }
          await kubectl.run(['create', '-f', '-'], manifestOf(resource, name, spec));
          try {
            const refused = await kubectl.try(['replace', '-f', '-'], manifestOf(resource, name, becomes));
            expectRefusal(refused, resource, breaker);
            expect(refused.stderr).toContain(`${field}: expected`);
            await kubectl.run(['replace', '-f', '-'], manifestOf(resource, name, spec));
          } finally {
            await kubectl.run(['delete', resource.plural, name]);
          }
        },
      );
    });

    test.each([
      ['grows', { size: '1Gi' }, { size: '2Gi' }],
      ['stays, in other words', { size: '1Gi' }, { size: 2 ** 30 }],
      ['gets a buffer', { size: '1Gi' }, { size: '1Gi', buffer: { pool: 'buffer', capacity: '1Gi' } }],
      ['changes its mount options', { size: '1Gi' }, { size: '1Gi', mountOptions: ['noatime'] }],
    ])('a volume that %s is taken', async (_, before, after) => {
      const [resource] = customResources.filter(({ kind }) => kind === 'PrimaryVolume');
      if (resource === undefined) throw new Error('no such kind');
      await kubectl.run(['create', '-f', '-'], manifestOf(resource, 'changing', { ...before, nodeName: 'a' }));
      try {
        await kubectl.run(['replace', '-f', '-'], manifestOf(resource, 'changing', { ...after, nodeName: 'a' }));
      } finally {
        await kubectl.run(['delete', 'primaryvolume', 'changing']);
      }
    });
  },
);

type Rule = AnyCustomResource['rules'][number];

/** As the operator sees it, for which a spec has its defaults. */
function breaks(rule: Rule, { spec: schema }: AnyCustomResource, { spec, becomes }: RuleBreaker): boolean {
  const [before, after] = becomes === undefined ? [undefined, spec] : [schema.parse(spec), becomes];
  return rule.got(schema.parse(after), before) !== undefined;
}

function expectRefusal(
  { status, stderr }: { status: number; stderr: string },
  resource: AnyCustomResource,
  breaker: RuleBreaker,
): void {
  expect(status).toBe(1);
  const broken = resource.rules.filter((rule) => rule.cel !== undefined && breaks(rule, resource, breaker));
  expect(broken.length).toBeGreaterThan(0);
  for (const rule of broken) expect(stderr).toContain(messageOf(rule));
  // And nothing else: a rule that cannot be evaluated refuses too.
  const others = resource.rules.filter((rule) => !broken.includes(rule));
  for (const rule of others) expect(stderr).not.toContain(messageOf(rule));
}

function messageOf({ field, expected }: Rule): string {
  return `${field}: expected ${expected}`;
}

function manifestOf({ group, version, kind, namespaced }: AnyCustomResource, name: string, spec: object): string {
  const metadata = { name, ...(namespaced ? { namespace: 'default' } : {}) };
  return JSON.stringify({ apiVersion: `${group}/${version}`, kind, metadata, spec });
}
