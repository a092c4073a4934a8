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
