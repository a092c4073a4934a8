import type { KubeObject } from './kube-object.ts';
import type { Resource } from './resource.ts';

/**
 * The kinds of Kubernetes that are about storage, with the fields that are used here.
 * Source: https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/
 */
export interface PersistentVolume extends KubeObject {
  readonly spec: {
    readonly capacity: { readonly storage: string };
    readonly accessModes: readonly string[];
    readonly volumeMode?: 'Filesystem' | 'Block';
    readonly storageClassName?: string;
    readonly persistentVolumeReclaimPolicy?: string;
    readonly mountOptions?: readonly string[];
    readonly claimRef?: ClaimReference;
    readonly csi?: {
      readonly driver: string;
      readonly volumeHandle: string;
      readonly fsType?: string;
      readonly readOnly?: boolean;
      readonly volumeAttributes?: Readonly<Record<string, string>>;
    };
    readonly nodeAffinity?: {
      readonly required: { readonly nodeSelectorTerms: readonly NodeSelectorTerm[] };
    };
  };
  readonly status?: { readonly phase?: string };
}

export interface ClaimReference {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
}

export interface NodeSelectorTerm {
  readonly matchExpressions: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values?: readonly string[];
  }[];
}

export interface PersistentVolumeClaim extends KubeObject {
  readonly spec: {
    readonly accessModes?: readonly string[];
    readonly resources?: {
      readonly requests?: { readonly storage?: string | number };
      readonly limits?: { readonly storage?: string | number };
    };
    readonly volumeName?: string;
    readonly storageClassName?: string;
    readonly volumeMode?: 'Filesystem' | 'Block';
    readonly selector?: object;
    readonly dataSource?: { readonly kind: string; readonly name: string };
    readonly dataSourceRef?: { readonly kind: string; readonly name: string };
  };
  readonly status?: {
    readonly phase?: string;
    readonly capacity?: { readonly storage?: string };
    readonly conditions?: readonly ClaimCondition[];
  };
}

export interface ClaimCondition {
  readonly type: string;
  readonly status: string;
  readonly message?: string;
  readonly reason?: string;
  readonly lastTransitionTime?: string;
}

export interface StorageClass extends KubeObject {
  readonly provisioner: string;
  readonly parameters?: Readonly<Record<string, string>>;
  readonly reclaimPolicy?: string;
  readonly mountOptions?: readonly string[];
  readonly volumeBindingMode?: string;
  readonly allowVolumeExpansion?: boolean;
  readonly allowedTopologies?: readonly {
    readonly matchLabelExpressions?: readonly { readonly key: string; readonly values: readonly string[] }[];
  }[];
}

export const persistentVolumes: Resource<PersistentVolume> = {
  group: '',
  version: 'v1',
  kind: 'PersistentVolume',
  plural: 'persistentvolumes',
  namespaced: false,
  statusSubresource: true,
};

export const persistentVolumeClaims: Resource<PersistentVolumeClaim> = {
  group: '',
  version: 'v1',
  kind: 'PersistentVolumeClaim',
  plural: 'persistentvolumeclaims',
  namespaced: true,
  statusSubresource: true,
};

export const storageClasses: Resource<StorageClass> = {
  group: 'storage.k8s.io',
  version: 'v1',
  kind: 'StorageClass',
  plural: 'storageclasses',
  namespaced: false,
  statusSubresource: false,
};
