/** Short manifests for tests. */
export function volumeYaml(name: string, where: { nodeName: string }, more: string): string {
  return `apiVersion: understudy.dev/v1alpha1
kind: PrimaryVolume
metadata: { name: ${name} }
spec:
  size: 1Gi
  nodeName: ${where.nodeName}
${more}`;
}

export function mirrorYaml(name: string, volume: string, node: string, maxSnapshots: number): string {
  return `apiVersion: understudy.dev/v1alpha1
kind: StandbyMirror
metadata: { name: ${name} }
spec:
  primaryVolumeRef: { name: ${volume} }
  nodeName: ${node}
  buffer: { pool: buffer, capacity: 64Mi, maxSnapshots: ${maxSnapshots} }`;
}

export function snapshotYaml(name: string, mirror: string): string {
  return `apiVersion: understudy.dev/v1alpha1
kind: Snapshot
metadata: { name: ${name} }
spec:
  source: { mirror: ${mirror} }`;
}

export function poolYaml(node: string, pool: string, more = ''): string {
  return `apiVersion: understudy.dev/v1alpha1
kind: NodePool
metadata: { name: ${node}-${pool} }
spec: { node: ${node}, name: ${pool}, directory: /srv/${pool}${more} }`;
}

export function nodeYaml(name: string): string {
  return `apiVersion: v1
kind: Node
metadata: { name: ${name}, labels: { kubernetes.io/hostname: ${name}, kubernetes.io/os: linux } }`;
}

export function podYaml(name: string, claim: string): string {
  return `apiVersion: v1
kind: Pod
metadata: { name: ${name} }
spec:
  volumes: [{ name: data, persistentVolumeClaim: { claimName: ${claim} } }]`;
}

export function storageClassYaml(name: string, parameters: object, more = ''): string {
  return `apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: { name: ${name} }
provisioner: csi.understudy.dev
allowVolumeExpansion: true
parameters: ${JSON.stringify(parameters)}
${more}`;
}

export function claimYaml(name: string, storageClass: string, size = '1Gi', more = ''): string {
  return `apiVersion: v1
kind: PersistentVolumeClaim
metadata: { name: ${name} }
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: ${storageClass}
  resources: { requests: { storage: ${size} } }
${more}`;
}
