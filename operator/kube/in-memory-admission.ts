import { validate } from '../../common/validation.ts';
import { type AnyCustomResource, findCustomResource } from '../resources/all-kinds.ts';
import type { KubeObject } from '../resources/kube-object.ts';
import type { Resource } from '../resources/resource.ts';
import { brokenRules, describeViolations } from '../resources/validate-spec.ts';
import { kubeError } from './kube-error.ts';

/** What an API server checks: with its CustomResourceDefinitions' CEL rules, or (before Kubernetes 1.25) without. */
export type Admission = 'with-cel' | 'without-cel';

/**
 * What the API server makes of an object of ours before it stores it: defaults are filled in, unknown fields dropped, and
 * what breaks the schema or a rule is refused. Objects of other kinds are taken as they are.
 * @throws an Invalid error with all violations.
 */
export function admit<T extends KubeObject>(
  resource: Resource<T>,
  object: KubeObject,
  old: KubeObject | undefined,
  admission: Admission,
): KubeObject {
  const custom = findCustomResource(resource);
  if (custom === undefined) return object;
  const spec = admitSpec(custom, object, old, admission);
  const status = admitStatus(custom, object);
  return { ...object, spec, ...(status === undefined ? {} : { status }) } as KubeObject;
}

function admitSpec(custom: AnyCustomResource, object: KubeObject, old: KubeObject | undefined, admission: Admission) {
  const shaped = validate(custom.spec, partOf(object, 'spec'));
  if (!shaped.ok) {
    throw invalid(
      custom,
      object,
      shaped.violations.map((found) => ({ ...found, path: ['spec', ...found.path] })),
    );
  }
  if (admission === 'with-cel') {
    const violations = brokenRules(
      { rules: custom.rules.filter((rule) => rule.cel !== undefined) },
      shaped.value,
      old === undefined ? undefined : partOf(old, 'spec'),
    );
    if (violations.length > 0) throw invalid(custom, object, violations);
  }
  return shaped.value;
}

function admitStatus(custom: AnyCustomResource, object: KubeObject): unknown {
  const status = partOf(object, 'status');
  if (status === undefined) return undefined;
  const shaped = validate(custom.status, status);
  if (shaped.ok) return shaped.value;
  throw invalid(
    custom,
    object,
    shaped.violations.map((found) => ({ ...found, path: ['status', ...found.path] })),
  );
}

function partOf(object: object, field: 'spec' | 'status'): unknown {
  return new Map<string, unknown>(Object.entries(object)).get(field);
}

function invalid(custom: AnyCustomResource, object: KubeObject, violations: Parameters<typeof describeViolations>[0]) {
  return kubeError(
    422,
    'Invalid',
    `${custom.kind} "${object.metadata.name}" is invalid: ${describeViolations(violations)}`,
  );
}
