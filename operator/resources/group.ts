/** The API group of every kind of Understudy, and the names that the operator puts on objects. */
export const group = 'understudy.dev';
export const version = 'v1alpha1';

/** `kubectl get understudy` lists every kind of this category. */
export const category = 'understudy';

/** Keeps an object until what it stands for at the agents is gone too. */
export const finalizer = `${group}/at-agents`;

/**
 * Set to "true" on an object that is being deleted, it releases the object although something at an agent could not be
 * removed: the node is gone for good, or someone decided to clean up by hand.
 */
export const abandonAnnotation = `${group}/abandon`;

/** On a PersistentVolume: the uid and the kind of the object that it was made of; its annotation has namespace and name. */
export const ownerUidLabel = `${group}/owner-uid`;
export const ownerKindLabel = `${group}/owner-kind`;
export const ownerAnnotation = `${group}/owner`;

/** On what was made for a claim of a StorageClass: the uid of that claim. */
export const claimUidLabel = `${group}/claim-uid`;
