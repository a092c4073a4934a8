/** The API group of every kind of Understudy, and the names that the operator puts on objects. */
export const group = 'understudy.dev';
export const version = 'v1alpha1';

/** `kubectl get understudy` lists every kind of this category. */
export const category = 'understudy';

/** Keeps an object until what it stands for at the agents is gone too. */
export const finalizer = `${group}/at-agents`;

/** On a PrimaryVolume: make the copy of that name, or on that node, the primary. It goes away when that is done. */
export const promoteAnnotation = `${group}/promote`;
/** On a PrimaryVolume, "<node>/<epoch>" of the primary that is given up: its acknowledged writes may be lost (rule 6). */
export const acceptLossAnnotation = `${group}/accept-loss`;
/** On a PrimaryVolume, the name of a copy: what only that copy has is given up. It goes away when that is done. */
export const discardAnnotation = `${group}/discard`;

/** On a StandbyMirror, the node of its standby: that is lost for good, and built again elsewhere without further delay. */
export const rebuildAnnotation = `${group}/rebuild`;

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

/** On a Snapshot that a SnapshotSchedule made: the uid of that, by which it knows its own, and its name, for people to select by. */
export const scheduleUidLabel = `${group}/schedule-uid`;
export const scheduleLabel = `${group}/schedule`;
/** On such a Snapshot: the time of the schedule that it was made for, RFC 3339. */
export const scheduledAtAnnotation = `${group}/scheduled-at`;
/** On such a Snapshot: the name of the Job that is to be made for it. */
export const jobAnnotation = `${group}/job`;
/** Set to "true" on a Snapshot, no schedule removes it. */
export const keepAnnotation = `${group}/keep`;

/** On the Snapshot of what was there before a restore: the uid of the SnapshotRestore. */
export const restoreUidLabel = `${group}/restore-uid`;

/** On a Snapshot that a SnapshotGroup made: the uid of that, by which it knows its own, and its name, for people to select by. */
export const groupUidLabel = `${group}/group-uid`;
export const groupLabel = `${group}/group`;
/** On such a Snapshot: which attempt it was made for. */
export const groupAttemptAnnotation = `${group}/group-attempt`;
