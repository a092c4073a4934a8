import type { z } from 'zod';
import type { CustomObject, KubeObject } from './kube-object.ts';

/** How a kind is reached in the Kubernetes API. */
export interface Resource<T extends KubeObject = KubeObject> {
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
  /** The status is a subresource: it is written separately, and only there. */
  readonly statusSubresource: boolean;
  /** Never set; it only carries the type of the objects. */
  readonly objectType?: T;
}

/** A kind of ours: what its CustomResourceDefinition is generated from, and what its objects are checked with. */
export interface CustomResource<Spec = unknown, Status = unknown> extends Resource<CustomObject<Spec, Status>> {
  readonly singular: string;
  readonly shortNames: readonly string[];
  /** What the kind is for; the description of its schema. */
  readonly description: string;
  readonly spec: z.ZodType<Spec> & z.ZodObject;
  readonly status: z.ZodObject;
  /** Beyond the shape: relations between fields, and what must not change. */
  readonly rules: readonly SpecRule<Spec>[];
  /** Fields of the spec that cannot change after creation; `status.accepted` keeps what they were. */
  readonly immutable: readonly (keyof Spec & string)[];
  readonly printerColumns: readonly PrinterColumn[];
}

/**
 * A rule that the API server checks as CEL on `self` (and `oldSelf`), and that the operator checks itself as well:
 * Kubernetes before 1.25 ignores CEL in a CustomResourceDefinition.
 */
export interface SpecRule<Spec> {
  /** The field at fault, e.g. "failover.policy". */
  readonly field: string;
  /** Completes "spec.<field>: expected …". */
  readonly expected: string;
  /** Undefined where CEL cannot say it. */
  readonly cel?: string;
  /** What was there instead, if the rule is broken. `old` is the accepted state before, if there was one. */
  readonly got: (spec: Spec, old: Partial<Spec> | undefined) => string | undefined;
}

export interface PrinterColumn {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'date';
  readonly jsonPath: string;
  readonly description: string;
  /** 0 is always shown, 1 only with `-o wide`. */
  readonly priority?: 0 | 1;
}

/** `understudy.dev/v1alpha1`, or `v1` for the core group. */
export function apiVersionOf(resource: Pick<Resource, 'group' | 'version'>): string {
  return resource.group === '' ? resource.version : `${resource.group}/${resource.version}`;
}
