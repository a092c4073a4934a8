/** A spec, and what it becomes; without the latter it is refused at its creation. */
export interface RuleBreaker {
  readonly field: string;
  readonly spec: object;
  readonly becomes?: object;
}

const volume = { size: '1Gi', nodeName: 'a' };
const buffer = { pool: 'buffer', capacity: '1Gi' };
const selected = { size: '1Gi', nodeSelector: { disk: 'ssd' } };
const mirror = { primaryVolumeRef: { name: 'data' }, nodeName: 'b' };
const snapshot = { source: { mirror: 'm' } };
const members = { sources: [{ mirror: 'm' }] };
const restore = { snapshot: 's', newVolume: { name: 'new', nodeName: 'a' } };
const pool = { node: 'a', name: 'main', directory: '/srv/main' };

const both = { nodeName: 'a', nodeSelector: { disk: 'ssd' } };

/** By kind: for each rule between fields, and between a spec and what it becomes, at least one that breaks it. */
export const ruleBreakers: Readonly<Record<string, readonly RuleBreaker[]>> = {
  NodePool: [
    { field: 'directory', spec: { ...pool, devices: ['/dev/sdb'] } },
    { field: 'directory', spec: { node: 'a', name: 'main' } },
    { field: 'node', spec: pool, becomes: { ...pool, node: 'b' } },
    { field: 'name', spec: pool, becomes: { ...pool, name: 'other' } },
  ],
  PrimaryVolume: [
    { field: 'nodeName', spec: { ...volume, ...both } },
    { field: 'nodeName', spec: { size: '1Gi' } },
    { field: 'size', spec: volume, becomes: { ...volume, size: '1023Mi' } },
    { field: 'size', spec: { ...volume, size: 8192 }, becomes: { ...volume, size: 4096 } },
    { field: 'size', spec: { ...volume, size: 2 ** 30 }, becomes: { ...volume, size: '1Mi' } },
    { field: 'buffer.pool', spec: { ...volume, buffer }, becomes: { ...volume, buffer: { ...buffer, pool: 'other' } } },
    { field: 'buffer.pool', spec: { ...volume, buffer }, becomes: volume },
    {
      field: 'buffer.capacity',
      spec: { ...volume, buffer },
      becomes: { ...volume, buffer: { ...buffer, capacity: '1Mi' } },
    },
    { field: 'nodeName', spec: volume, becomes: { ...volume, nodeName: 'b' } },
    { field: 'nodeName', spec: volume, becomes: selected },
    { field: 'nodeSelector', spec: selected, becomes: { ...selected, nodeSelector: { disk: 'hdd' } } },
    { field: 'claimName', spec: { ...volume, claimName: 'c' }, becomes: { ...volume, claimName: 'd' } },
    { field: 'claimName', spec: volume, becomes: { ...volume, claimName: 'd' } },
    { field: 'storageClassName', spec: volume, becomes: { ...volume, storageClassName: 'fast' } },
    {
      field: 'source',
      spec: { ...volume, source: { restore: 'r' } },
      becomes: { ...volume, source: { restore: 'other' } },
    },
    { field: 'pool', spec: volume, becomes: { ...volume, pool: 'fast' } },
    { field: 'volumeMode', spec: volume, becomes: { ...volume, volumeMode: 'Block' } },
    { field: 'fsType', spec: volume, becomes: { ...volume, fsType: 'xfs' } },
    { field: 'blockSize', spec: { ...volume, blockSize: 512 }, becomes: { ...volume, blockSize: 4096 } },
    { field: 'provisioning', spec: volume, becomes: { ...volume, provisioning: 'Sparse' } },
  ],
  StandbyMirror: [
    { field: 'nodeName', spec: { ...mirror, ...both } },
    { field: 'failover.policy', spec: { ...mirror, mode: 'Asynchronous', failover: { policy: 'Automatic' } } },
    {
      field: 'failover.policy',
      spec: { ...mirror, failover: { policy: 'Automatic' } },
      becomes: { ...mirror, mode: 'Asynchronous', failover: { policy: 'Automatic' } },
    },
    { field: 'journal', spec: { ...mirror, journal: { capacity: '1Gi' } } },
    { field: 'compression', spec: { ...mirror, compression: 'Zstd' } },
    { field: 'mirrorRef', spec: { ...mirror, mirrorRef: { name: 'm' } } },
    { field: 'buffer.pool', spec: { ...mirror, buffer }, becomes: mirror },
    {
      field: 'buffer.capacity',
      spec: { ...mirror, buffer },
      becomes: { ...mirror, buffer: { ...buffer, capacity: '1Mi' } },
    },
    { field: 'primaryVolumeRef', spec: mirror, becomes: { ...mirror, primaryVolumeRef: { name: 'other' } } },
    {
      field: 'mirrorRef',
      spec: { ...mirror, mode: 'Asynchronous', mirrorRef: { name: 'm' } },
      becomes: { ...mirror, mode: 'Asynchronous', mirrorRef: { name: 'n' } },
    },
    { field: 'nodeName', spec: mirror, becomes: { ...mirror, nodeName: 'c' } },
    {
      field: 'nodeSelector',
      spec: { primaryVolumeRef: { name: 'data' }, nodeSelector: { disk: 'ssd' } },
      becomes: { primaryVolumeRef: { name: 'data' }, nodeSelector: { disk: 'hdd' } },
    },
    { field: 'pool', spec: mirror, becomes: { ...mirror, pool: 'fast' } },
  ],
  Snapshot: [
    { field: 'source', spec: { source: { mirror: 'm', volume: 'v' } } },
    { field: 'source', spec: { source: {} } },
    { field: 'source', spec: snapshot, becomes: { source: { mirror: 'n' } } },
    {
      field: 'consistency',
      spec: snapshot,
      becomes: { ...snapshot, consistency: { lull: { quietFor: '1s', timeout: '5s' } } },
    },
    { field: 'claimName', spec: snapshot, becomes: { ...snapshot, claimName: 'c' } },
  ],
  SnapshotGroup: [
    { field: 'sources', spec: { ...members, mirrorSelector: { matchLabels: { app: 'db' } } } },
    { field: 'sources', spec: { sources: [{ mirror: 'm', volume: 'v' }] } },
    { field: 'sources', spec: members, becomes: { sources: [{ mirror: 'n' }] } },
    {
      field: 'mirrorSelector',
      spec: { mirrorSelector: { matchLabels: { app: 'db' } } },
      becomes: { mirrorSelector: { matchLabels: { app: 'web' } } },
    },
    { field: 'template', spec: members, becomes: { ...members, template: { claim: false } } },
  ],
  SnapshotSchedule: [
    { field: 'template.source', spec: { cron: '0 1 * * *', template: { source: { mirror: 'm', volume: 'v' } } } },
  ],
  SnapshotRestore: [
    { field: 'snapshot', spec: restore, becomes: { ...restore, snapshot: 't' } },
    { field: 'keepBefore', spec: { snapshot: 's' }, becomes: { snapshot: 's', keepBefore: false } },
    { field: 'allowInUse', spec: { snapshot: 's' }, becomes: { snapshot: 's', allowInUse: true } },
    {
      field: 'newVolume.name',
      spec: restore,
      becomes: { ...restore, newVolume: { name: 'other', nodeName: 'a' } },
    },
    { field: 'newVolume.name', spec: restore, becomes: { snapshot: 's' } },
    { field: 'newVolume', spec: { snapshot: 's', newVolume: { name: 'new', ...both } } },
  ],
};
