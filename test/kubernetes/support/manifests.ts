const apiVersion = 'understudy.dev/v1alpha1';

function custom(kind: string, namespace: string | undefined, name: string, spec: object): object {
  const metadata = { name, ...(namespace === undefined ? {} : { namespace }) };
  return { apiVersion, kind, metadata, spec };
}

/** The NodePool of one pool of an agent. */
export function pool(node: string, name: string, directory: string): object {
  const purpose = name === 'buffer' ? 'buffer' : 'volumes';
  return custom('NodePool', undefined, `${node}-${name}`, { node, name, directory, purpose });
}

/** A small volume on node-a, sparse, so that dozens of them fit anywhere. */
export function volume(namespace: string, name: string, spec: object = {}): object {
  const usual = { size: '16Mi', nodeName: 'node-a', provisioning: 'Sparse' };
  return custom('PrimaryVolume', namespace, name, { ...usual, ...spec });
}

/** Its mirror on node-b, with a snapshot buffer. */
export function mirror(namespace: string, name: string, volumeName: string, spec: object = {}): object {
  const buffer = { pool: 'buffer', capacity: '16Mi' };
  const usual = { primaryVolumeRef: { name: volumeName }, nodeName: 'node-b', buffer };
  return custom('StandbyMirror', namespace, name, { ...usual, ...spec });
}

/** A snapshot of a mirror, taken at once. */
export function snapshot(namespace: string, name: string, mirrorName: string, spec: object = {}): object {
  return custom('Snapshot', namespace, name, { source: { mirror: mirrorName }, ...spec });
}

/** Snapshots of these mirrors at one moment. */
export function snapshotGroup(namespace: string, name: string, mirrors: readonly string[], spec: object = {}): object {
  const usual = { sources: mirrors.map((mirror) => ({ mirror })), template: { claim: false } };
  return custom('SnapshotGroup', namespace, name, { ...usual, ...spec });
}

/** A schedule of a mirror, each minute. */
export function schedule(namespace: string, name: string, mirrorName: string, spec: object = {}): object {
  const usual = { cron: '* * * * *', template: { source: { mirror: mirrorName } } };
  return custom('SnapshotSchedule', namespace, name, { ...usual, ...spec });
}

/** An order to put the volume of a snapshot back to it. */
export function restore(namespace: string, name: string, snapshotName: string, spec: object = {}): object {
  return custom('SnapshotRestore', namespace, name, { snapshot: snapshotName, ...spec });
}

/** What `kubectl apply -f -` takes. */
export function manifest(...objects: object[]): string {
  return JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects });
}
