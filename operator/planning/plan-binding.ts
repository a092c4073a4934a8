import { formatBytes, parseQuantity } from '../../common/quantity.ts';
import type { Finding } from '../resources/conditions.ts';
import { finalizer } from '../resources/group.ts';
import { type KubeObject, keyOf } from '../resources/kube-object.ts';
import {
  type ClaimCondition,
  type PersistentVolume,
  type PersistentVolumeClaim,
  persistentVolumeClaims,
  persistentVolumes,
} from '../resources/storage-kinds.ts';
import type { BindingFact } from './binding-fact.ts';
import { binaryQuantity, newClaim, newPersistentVolume } from './binding-objects.ts';
import type { Binding, BindingKind, WantedBinding } from './bindings.ts';
import { listNames } from './findings.ts';
import type { KubeAction } from './kube-actions.ts';
import { type Blocker, isDeleting } from './object-plan.ts';

/** What is known about a binding and the object that it is made of. */
export interface BindingWorld {
  /** RFC 3339. */
  readonly now: string;
  readonly kind: BindingKind;
  /** The object that it is made of, if that is there. */
  readonly owner: KubeObject | undefined;
  readonly binding: WantedBinding;
  readonly claimName: string;
  /** The PersistentVolume that was made of this object, or of an earlier one of the same name. */
  readonly persistentVolume: PersistentVolume | undefined;
  /** The claim of that name in the namespace of the owner, whoever made it. */
  readonly claim: PersistentVolumeClaim | undefined;
  /** The names of the pods that use a claim of that name; looked at only while something is to go. */
  readonly users: readonly string[];
}

/** What pods may still read or write through, and that has to go before what is behind it. */
export function isGoing({ owner, binding }: Pick<BindingWorld, 'owner' | 'binding'>): boolean {
  return owner === undefined || isDeleting(owner) || binding === 'unwanted';
}

/** Whether that waits for the pods that use it; where nothing was made of the object, nothing does. */
export function waitsForUsers(world: Omit<BindingWorld, 'users'>): boolean {
  const { owner, persistentVolume, claim } = world;
  return isGoing(world) && (persistentVolume !== undefined || (claim !== undefined && isMadeFor(claim, owner)));
}

/** The next things to do; once they are done it is planned again. */
export function planBinding(world: BindingWorld): KubeAction[] {
  const { owner, binding, persistentVolume, claim } = world;
  if (owner === undefined || binding === 'unwanted' || isDeleting(owner)) return planRemoval(world);
  if (binding === undefined) return [];
  if (claim === undefined) {
    if (binding.provisionedFor !== undefined) return [];
    return [{ verb: 'create', resource: persistentVolumeClaims, object: newClaim(binding, owner) }];
  }
  if (!isOurs(claim, binding, owner)) return [];
  if (persistentVolume === undefined) {
    const object = withModesOf(claim, newPersistentVolume(binding, world.kind, owner, claim.metadata.uid));
    return [{ verb: 'create', resource: persistentVolumes, object }];
  }
  if (isDeleting(persistentVolume)) return letGo(persistentVolume);
  return [...repair(persistentVolume, claim, binding), ...tellOfResize(world.now, binding, persistentVolume, claim)];
}

/** A claim that we made, or that the volume was made for, or that names our volume itself. */
function isOurs(claim: PersistentVolumeClaim, binding: Binding, owner: KubeObject): boolean {
  if (binding.provisionedFor !== undefined) return claim.metadata.uid === binding.provisionedFor;
  return isMadeFor(claim, owner) || claim.spec.volumeName === binding.persistentVolumeName;
}

function isMadeFor(claim: PersistentVolumeClaim, owner: KubeObject | undefined): boolean {
  return claim.metadata.ownerReferences?.some(({ uid }) => uid === owner?.metadata.uid) ?? false;
}

/** A claim of one pod (ReadWriteOncePod) binds to a volume that offers that. */
function withModesOf(claim: PersistentVolumeClaim, volume: ReturnType<typeof newPersistentVolume>) {
  const asked = claim.spec.accessModes ?? [];
  return asked.includes('ReadWriteOncePod')
    ? { ...volume, spec: { ...volume.spec, accessModes: ['ReadWriteOncePod'] } }
    : volume;
}

/** What has changed since the PersistentVolume was made. */
function repair(volume: PersistentVolume, claim: PersistentVolumeClaim, binding: Binding): KubeAction[] {
  const { spec } = volume;
  const bound = spec.claimRef?.uid === claim.metadata.uid;
  const grown = binding.grows && parseQuantity(spec.capacity.storage) < binding.capacityBytes;
  const kept = binding.reclaimPolicy === 'Retain' && spec.persistentVolumeReclaimPolicy !== 'Retain';
  const otherOptions = (spec.mountOptions ?? []).join() !== binding.mountOptions.join();
  const patch = {
    ...(bound ? {} : { claimRef: { uid: claim.metadata.uid, resourceVersion: null } }),
    ...(grown ? { capacity: { storage: binaryQuantity(binding.capacityBytes) } } : {}),
    // Only towards keeping: someone may have set Retain on the PersistentVolume itself.
    ...(kept ? { persistentVolumeReclaimPolicy: 'Retain' } : {}),
    ...(otherOptions ? { mountOptions: binding.mountOptions.length === 0 ? null : binding.mountOptions } : {}),
  };
  if (Object.keys(patch).length === 0) return [];
  return [{ verb: 'patch', resource: persistentVolumes, key: keyOf(volume), patch: { spec: patch } }];
}

const pending = 'FileSystemResizePending';

/** The kubelet of the node that uses the claim grows the filesystem, then says so in the claim's status. */
function tellOfResize(
  now: string,
  binding: Binding,
  volume: PersistentVolume,
  claim: PersistentVolumeClaim,
): KubeAction[] {
  const capacity = claim.status?.capacity?.storage;
  if (capacity === undefined || volume.spec.csi?.readOnly === true) return [];
  const { conditions = [] } = claim.status ?? {};
  const present = (type: string) =>
    conditions.find((condition) => condition.type === type && condition.status === 'True');
  const [have, asked] = [parseQuantity(capacity), parseQuantity(claim.spec.resources?.requests?.storage ?? 0)];
  const offered = parseQuantity(volume.spec.capacity.storage);
  const wanted = offered > have ? pending : asked > offered ? 'Resizing' : undefined;
  if (wanted === undefined) return [];
  if (wanted === pending && present(pending) && !present('Resizing')) return [];
  const message =
    wanted === pending
      ? `the volume has ${formatBytes(offered)}; its filesystem grows on the node that uses it, or when it is next used`
      : (binding.growthBlocked ?? 'both copies of the volume are growing');
  if (wanted === 'Resizing' && present(wanted)?.message === message) return [];
  const others = conditions.filter(({ type }) => type !== 'Resizing' && type !== pending);
  const condition: ClaimCondition = { type: wanted, status: 'True', message, lastTransitionTime: now };
  const { resourceVersion } = claim.metadata;
  return [
    {
      verb: 'patch',
      resource: persistentVolumeClaims,
      key: keyOf(claim),
      patch: { metadata: { resourceVersion }, status: { conditions: [...others, condition] } },
      subresource: 'status',
    },
  ];
}

/**
 * First the claim: from then on no new pod can use it, and Kubernetes keeps it as long as one does. Then the
 * PersistentVolume. A claim that a user made stays: it is for them to delete.
 */
function planRemoval(world: BindingWorld): KubeAction[] {
  const { owner, persistentVolume, claim, users } = world;
  if (claim !== undefined && isMadeFor(claim, owner)) {
    if (isDeleting(claim)) return [];
    return [{ verb: 'delete', resource: persistentVolumeClaims, key: keyOf(claim), uid: claim.metadata.uid }];
  }
  if (persistentVolume === undefined || users.length > 0) return [];
  if (owner !== undefined && claim !== undefined && isBoundTo(persistentVolume, claim)) return [];
  return letGo(persistentVolume);
}

function isBoundTo(volume: PersistentVolume, claim: PersistentVolumeClaim): boolean {
  const { claimRef } = volume.spec;
  return claim.spec.volumeName === volume.metadata.name && claimRef?.name === claim.metadata.name;
}

/** Kubernetes keeps a PersistentVolume that is bound; beyond that nothing of ours holds it. */
function letGo(volume: PersistentVolume): KubeAction[] {
  const key = keyOf(volume);
  const { uid, finalizers = [] } = volume.metadata;
  if (!isDeleting(volume)) return [{ verb: 'delete', resource: persistentVolumes, key, uid }];
  if (!finalizers.includes(finalizer)) return [];
  const left = finalizers.filter((name) => name !== finalizer);
  return [{ verb: 'patch', resource: persistentVolumes, key, patch: { metadata: { finalizers: left } } }];
}

/** How the binding stands, from the same facts as its plan. */
export function bindingFact(world: BindingWorld): BindingFact {
  const { owner, binding } = world;
  if (owner === undefined || isDeleting(owner)) {
    const blocker = removalBlocker(world);
    return blocker === undefined ? {} : { blocker };
  }
  if (binding === 'unwanted') return { unwanted: true };
  if (binding === undefined) return {};
  const { persistentVolumeName, claimName } = binding;
  return { persistentVolumeName, claimName, finding: claimedFinding(world, binding, owner) };
}

function removalBlocker({ owner, persistentVolume, claim, claimName, users }: BindingWorld): Blocker | undefined {
  const made = claim !== undefined && isMadeFor(claim, owner);
  const bound = claim !== undefined && persistentVolume !== undefined && isBoundTo(persistentVolume, claim);
  if (users.length > 0 && (made || persistentVolume !== undefined)) {
    const pods = users.length === 1 ? `pod ${users[0]}` : `pods ${listNames(users)}`;
    return { reason: 'ClaimInUse', message: `claim ${claimName} is used by ${pods}` };
  }
  if (made) return { reason: 'ClaimDeleting', message: `claim ${claimName} is being deleted` };
  if (bound) {
    const message = `claim ${claimName} is bound to it, and was made by someone else: it waits for the deletion of that`;
    return { reason: 'ClaimBound', message };
  }
  if (persistentVolume?.metadata.finalizers?.includes(finalizer) !== true) return undefined;
  const message = `PersistentVolume ${persistentVolume.metadata.name} is being deleted`;
  return { reason: 'ClaimDeleting', message };
}

function claimedFinding(world: BindingWorld, binding: Binding, owner: KubeObject): Finding {
  const { persistentVolume, claim, claimName } = world;
  const not = (reason: string, message: string): Finding => ({ type: 'Claimed', status: 'False', reason, message });
  if (claim === undefined) {
    if (binding.provisionedFor === undefined) return not('Pending', `claim ${claimName} is being made`);
    return not('ClaimDeleted', `claim ${claimName}, for which it was made, is gone`);
  }
  if (!isOurs(claim, binding, owner)) {
    const hint = 'delete that, or choose another name in spec.claimName of a new object';
    return not('ClaimConflict', `claim ${claimName} exists already and is not of this object: ${hint}`);
  }
  if (persistentVolume === undefined)
    return not('Pending', `PersistentVolume ${binding.persistentVolumeName} is being made`);
  if (isDeleting(persistentVolume)) {
    return not(
      'VolumeDeleting',
      `PersistentVolume ${persistentVolume.metadata.name} is being deleted, and is made again after`,
    );
  }
  const phase = claim.status?.phase ?? 'Bound';
  const bound = persistentVolume.spec.claimRef?.uid === claim.metadata.uid;
  if (!bound || phase !== 'Bound') return not('Pending', `claim ${claimName} is not bound yet`);
  return { type: 'Claimed', status: 'True', reason: 'Bound', message: `pods can use it through claim ${claimName}` };
}
