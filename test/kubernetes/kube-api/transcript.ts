import { UnderstudyError } from '../../../common/errors.ts';
import type { KubeObject } from '../../../operator/resources/kube-object.ts';

/** What an API answered, without what is different each time: identities, versions, times, and the words of errors. */
export type Transcript = readonly unknown[];

/** The part of an object that must be the same whichever API has it. */
export function view(object: KubeObject | undefined): unknown {
  if (object === undefined) return 'not there';
  const { name, generation, labels, finalizers, deletionTimestamp, ownerReferences } = object.metadata;
  return {
    kind: object.kind,
    apiVersion: object.apiVersion,
    name,
    generation,
    labels: labels ?? {},
    finalizers: finalizers ?? [],
    beingDeleted: deletionTimestamp !== undefined,
    owners: (ownerReferences ?? []).map((owner) => owner.name),
    spec: Reflect.get(object, 'spec'),
    status: Reflect.get(object, 'status'),
  };
}

/** The result of one call, or how it failed. */
export async function outcome(call: Promise<unknown>): Promise<unknown> {
  try {
    const result = await call;
    return typeof result === 'string' ? result : view(result as KubeObject | undefined);
  } catch (error) {
    if (!(error instanceof UnderstudyError)) throw error;
    const { status, reason } = error.labels;
    return { error: error.code, status, reason };
  }
}
