import type { Finding } from '../resources/conditions.ts';
import { abandonAnnotation, finalizer } from '../resources/group.ts';
import type { KubeObject } from '../resources/kube-object.ts';

/** What is to become of an object in the Kubernetes API. */
export interface ObjectPlan<Status> {
  readonly status: Status;
  /** hold: put the finalizer on it, before anything is done at an agent for it. release: take it off. */
  readonly finalizer: 'hold' | 'release' | 'keep';
  /** Orders that have been obeyed, to be taken off the object. */
  readonly obeyed?: readonly string[] | undefined;
}

export function isHeld(object: KubeObject): boolean {
  return object.metadata.finalizers?.includes(finalizer) ?? false;
}

export function isDeleting(object: KubeObject): boolean {
  return object.metadata.deletionTimestamp !== undefined;
}

/** Someone has decided that the object may go although something at an agent may stay behind. */
export function isAbandoned(object: KubeObject): boolean {
  return isDeleting(object) && object.metadata.annotations?.[abandonAnnotation] === 'true';
}

/** Why an object that is being deleted is still there. */
export interface Blocker {
  readonly reason: string;
  readonly message: string;
}

/** The finding that tells what a deletion waits for. */
export function blockedFinding(blocker: Blocker): Finding {
  const hint = `To let it go nevertheless: kubectl annotate … ${abandonAnnotation}=true`;
  return { type: 'DeletionBlocked', status: 'True', reason: blocker.reason, message: `${blocker.message}. ${hint}` };
}
