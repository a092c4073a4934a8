import { formatPath, type Validation, type Violation, validate } from '../../common/validation.ts';
import type { AnyCustomResource } from './all-kinds.ts';
import type { CustomResource } from './resource.ts';

/**
 * Checks a spec completely: its shape, the relations between its fields, and what must not have changed since `accepted`.
 * Nothing is assumed of the API server: objects may be older than the CustomResourceDefinition, and Kubernetes before
 * 1.25 checks shapes only.
 */
export function validateSpec<Spec>(
  resource: CustomResource<Spec, unknown>,
  spec: unknown,
  accepted?: Readonly<Record<string, unknown>>,
): Validation<Spec> {
  const shaped = validate(resource.spec, spec);
  if (!shaped.ok) return { ok: false, violations: shaped.violations.map(within) };
  const violations = brokenRules(resource as unknown as AnyCustomResource, shaped.value, accepted);
  return violations.length === 0 ? { ok: true, value: shaped.value } : { ok: false, violations };
}

/** The rules that a well-formed spec breaks. */
export function brokenRules(resource: Pick<AnyCustomResource, 'rules'>, spec: unknown, old: unknown): Violation[] {
  return resource.rules.flatMap((rule) => {
    const got = rule.got(spec, old);
    if (got === undefined) return [];
    return [{ path: ['spec', ...rule.field.split('.')], message: `expected ${rule.expected}, got ${got}` }];
  });
}

/** One line for a condition: `spec.size: expected …, got …; spec.pool: …`. */
export function describeViolations(violations: readonly Violation[]): string {
  return violations.map(({ path, message }) => `${formatPath(path)}: ${message}`).join('; ');
}

/** The immutable part of a spec, to be kept in `status.accepted`. */
export function acceptedPart<Spec extends object>(
  resource: Pick<CustomResource<Spec, unknown>, 'immutable'>,
  spec: Spec,
): Record<string, unknown> {
  const kept = new Set<string>(resource.immutable);
  return Object.fromEntries(Object.entries(spec).filter(([field, value]) => kept.has(field) && value !== undefined));
}

function within(violation: Violation): Violation {
  return { ...violation, path: ['spec', ...violation.path] };
}
