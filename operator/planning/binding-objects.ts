import { driverName, uidKey } from '../../common/csi/driver.ts';
import { finalizer, ownerAnnotation, ownerKindLabel, ownerUidLabel } from '../resources/group.ts';
import { type KubeObject, keyOf, keyText, type NewObject } from '../resources/kube-object.ts';
import type { PersistentVolume, PersistentVolumeClaim } from '../resources/storage-kinds.ts';
import type { Binding, BindingKind } from './bindings.ts';

const managedBy = { 'app.kubernetes.io/managed-by': 'understudy' };

/** The PersistentVolume of a binding, reserved for its claim. */
export function newPersistentVolume(
  binding: Binding,
  kind: BindingKind,
  owner: KubeObject,
  claimUid: string | undefined,
): NewObject<PersistentVolume> {
  const { namespace = '' } = owner.metadata;
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: {
      name: binding.persistentVolumeName,
      // A cluster-scoped object cannot be owned by a namespaced one: labels instead, and a finalizer.
      labels: { ...managedBy, [ownerKindLabel]: kind, [ownerUidLabel]: owner.metadata.uid },
      annotations: {
        [ownerAnnotation]: keyText(keyOf(owner)),
        'pv.kubernetes.io/provisioned-by': driverName,
      },
      finalizers: [finalizer],
    },
    spec: {
      capacity: { storage: binaryQuantity(binding.capacityBytes) },
      accessModes: accessModesOf(binding),
      volumeMode: binding.volumeMode,
      storageClassName: binding.storageClassName,
      persistentVolumeReclaimPolicy: binding.reclaimPolicy,
      ...(binding.mountOptions.length === 0 ? {} : { mountOptions: binding.mountOptions }),
      claimRef: {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        namespace,
        name: binding.claimName,
        ...(claimUid === undefined ? {} : { uid: claimUid }),
      },
      csi: {
        driver: driverName,
        volumeHandle: binding.handle,
        ...(binding.volumeMode === 'Filesystem' ? { fsType: binding.fsType } : {}),
        ...(binding.readOnly ? { readOnly: true } : {}),
        volumeAttributes: { [uidKey]: binding.volumeUid },
      },
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [
            {
              matchExpressions: [{ key: binding.nodeLabel.key, operator: 'In', values: [binding.nodeLabel.value] }],
            },
          ],
        },
      },
    },
  };
}

/** The claim of a binding that no user has made. */
export function newClaim(binding: Binding, owner: KubeObject): NewObject<PersistentVolumeClaim> {
  const { name, namespace = '', uid } = owner.metadata;
  const { apiVersion, kind } = owner;
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: {
      name: binding.claimName,
      namespace,
      labels: managedBy,
      ownerReferences: [{ apiVersion, kind, name, uid, controller: true, blockOwnerDeletion: false }],
    },
    spec: {
      accessModes: [binding.readOnly ? 'ReadOnlyMany' : 'ReadWriteOnce'],
      volumeMode: binding.volumeMode,
      storageClassName: binding.storageClassName,
      volumeName: binding.persistentVolumeName,
      resources: { requests: { storage: binaryQuantity(binding.capacityBytes) } },
    },
  };
}

/** What a claim for it may ask for: a volume can be had by one node, or by one pod. */
function accessModesOf(binding: Binding): string[] {
  return binding.readOnly ? ['ReadOnlyMany'] : ['ReadWriteOnce'];
}

/** Bytes as Kubernetes writes them itself: with the largest binary suffix that divides them. */
export function binaryQuantity(bytes: number): string {
  const suffixes = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi'];
  let value = bytes;
  let index = 0;
  while (value > 0 && value % 1024 === 0 && index < suffixes.length - 1) {
    value /= 1024;
    index += 1;
  }
  return `${value}${suffixes[index]}`;
}
