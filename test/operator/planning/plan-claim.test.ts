import { describe, expect, test } from 'vitest';
import { knownParameters } from '../../../operator/planning/claim-parameters.ts';
import { type ClaimRequest, planClaim } from '../../../operator/planning/plan-claim.ts';

const request: ClaimRequest = {
  volumeName: 'pvc-1',
  requestedBytes: 10 * 2 ** 30,
  volumeMode: 'Filesystem',
  accessModes: ['ReadWriteOnce'],
  reclaimPolicy: 'Delete',
  mountOptions: [],
  claim: { name: 'data', storageClassName: 'understudy' },
};

function planned(parameters: Record<string, string>, more: Partial<ClaimRequest> = {}) {
  const plan = planClaim(parameters, { ...request, ...more });
  if (!plan.ok) throw new Error(plan.message);
  return plan;
}

function refusal(parameters: Record<string, string>, more: Partial<ClaimRequest> = {}): string {
  const plan = planClaim(parameters, { ...request, ...more });
  if (plan.ok) throw new Error('it was not refused');
  return plan.message;
}

test('without parameters: a volume, and its mirror on another node', () => {
  const { volume, mirror } = planned({});
  expect(volume).toEqual({
    size: 10 * 2 ** 30,
    nodeSelector: { 'kubernetes.io/os': 'linux' },
    pool: 'main',
    volumeMode: 'Filesystem',
    fsType: 'ext4',
    blockSize: 512,
    provisioning: 'Thick',
    reclaimPolicy: 'Delete',
    claim: true,
    claimName: 'data',
    storageClassName: 'understudy',
  });
  expect(mirror).toMatchObject({
    primaryVolumeRef: { name: 'pvc-1' },
    nodeSelector: { 'kubernetes.io/os': 'linux' },
    pool: 'main',
    mode: 'Synchronous',
    onLoss: 'Suspend',
    failover: { policy: 'Manual' },
  });
  expect(mirror?.buffer).toBeUndefined();
});

test('every parameter has its place', () => {
  const { volume, mirror } = planned({
    pool: 'fast',
    fsType: 'xfs',
    blockSize: '4096',
    provisioning: 'Sparse',
    nodeSelector: 'disk=ssd,zone=a',
    standbyPool: 'slow',
    standbyNodeSelector: 'zone=b',
    mode: 'Synchronous',
    onLoss: 'Continue',
    bufferPool: 'extra',
    bufferCapacity: '3Gi',
    maxSnapshots: '7',
    failoverPolicy: 'Automatic',
    failoverAfter: '1m',
    duringBackup: 'Finish',
    finishWithin: '2m',
    evictPods: 'true',
  });
  expect(volume).toMatchObject({
    pool: 'fast',
    fsType: 'xfs',
    blockSize: 4096,
    provisioning: 'Sparse',
    nodeSelector: { disk: 'ssd', zone: 'a' },
  });
  expect(volume.buffer).toBeUndefined();
  expect(mirror).toMatchObject({
    pool: 'slow',
    nodeSelector: { zone: 'b' },
    onLoss: 'Continue',
    buffer: { pool: 'extra', capacity: 3 * 2 ** 30, maxSnapshots: 7 },
    failover: { policy: 'Automatic', after: '1m', duringBackup: 'Finish', finishWithin: '2m', evictPods: true },
  });
});

test('the node of the first consumer is the node of the volume', () => {
  const { volume } = planned({ nodeSelector: 'disk=ssd' }, { selectedNode: 'node-b' });
  expect(volume.nodeName).toBe('node-b');
  expect(volume.nodeSelector).toBeUndefined();
});

test('labels of the topology are required besides those of the parameters', () => {
  const { volume } = planned({ nodeSelector: 'disk=ssd' }, { topology: { zone: 'a' } });
  expect(volume.nodeSelector).toEqual({ disk: 'ssd', zone: 'a' });
});

test('a buffer is a quarter of the volume unless told otherwise, in whole MiB', () => {
  const buffer = (bufferCapacity?: string) =>
    planned(
      { bufferPool: 'buffer', ...(bufferCapacity === undefined ? {} : { bufferCapacity }) },
      { requestedBytes: 10_000_000 },
    ).mirror?.buffer;
  expect(buffer()).toEqual({ pool: 'buffer', capacity: 3 * 2 ** 20, maxSnapshots: 32 });
  expect(buffer('100%')?.capacity).toBe(10 * 2 ** 20);
  expect(buffer('1500Ki')?.capacity).toBe(2 * 2 ** 20);
});

test('without a mirror, the buffer is that of the volume itself', () => {
  const { volume, mirror } = planned({ mirror: 'false', bufferPool: 'buffer', bufferCapacity: '1Gi' });
  expect(mirror).toBeUndefined();
  expect(volume.buffer).toEqual({ pool: 'buffer', capacity: 2 ** 30, maxSnapshots: 32 });
});

test('a raw device, mount options and the reclaim policy are those of the claim and its class', () => {
  const { volume } = planned({}, { volumeMode: 'Block', reclaimPolicy: 'Retain', mountOptions: ['noatime'] });
  expect(volume).toMatchObject({ volumeMode: 'Block', reclaimPolicy: 'Retain', mountOptions: ['noatime'] });
});

test('for CSI no claim is made, and what a provisioner adds is no parameter', () => {
  const { volume } = planned(
    { 'csi.storage.k8s.io/fstype': 'xfs', 'csi.storage.k8s.io/pvc/namespace': 'shop' },
    { claim: undefined },
  );
  expect(volume).toMatchObject({ claim: false, fsType: 'xfs' });
  expect(volume.storageClassName).toBeUndefined();
});

test('a size is rounded up to whole 4096 bytes, within the limit', () => {
  expect(planned({}, { requestedBytes: 5000 }).volume.size).toBe(8192);
  expect(planned({}, { requestedBytes: 5000, limitBytes: 8192 }).volume.size).toBe(8192);
  expect(refusal({}, { requestedBytes: 5000, limitBytes: 6000 })).toContain('above the limit of 6000 bytes');
});

describe('a refusal says what is wrong and what is known', () => {
  test.each([
    [{ poolName: 'x' }, 'unknown key "poolName"'],
    [{ bufferpool: 'x' }, 'did you mean "bufferPool"?'],
    [{ fsType: 'ext3' }, 'fsType: expected "ext4", "xfs" or "btrfs", got "ext3"'],
    [{ nodeSelector: 'ssd' }, 'nodeSelector: expected labels such as "disk=ssd,zone=a", got "ssd"'],
    [{ bufferPool: 'b', bufferCapacity: 'half' }, 'or a share of the size such as 25%, got "half"'],
    [{ bufferPool: 'b', maxSnapshots: '600' }, 'maxSnapshots: expected a number from 1 to 512'],
    [{ mirror: 'no' }, 'mirror: expected "true" or "false", got "no"'],
    [{ bufferCapacity: '1Gi' }, 'bufferCapacity needs bufferPool'],
    [{ finishWithin: '2m' }, 'finishWithin needs duringBackup Finish'],
    [{ duringBackup: 'Finish', finishWithin: 'soon' }, 'finishWithin: '],
    [{ maxSnapshots: '5' }, 'maxSnapshots needs bufferPool'],
    [{ fsType: 'ext4', 'csi.storage.k8s.io/fstype': 'xfs' }, 'name different filesystems'],
    [{ mode: 'Asynchronous', failoverPolicy: 'Automatic' }, 'invalid StandbyMirror: spec.failover.policy'],
  ])('%j', (parameters, message) => {
    expect(refusal(parameters as unknown as Record<string, string>)).toContain(message);
  });

  test('the known parameters are listed', () => {
    const message = refusal({ sizee: '1' });
    for (const name of knownParameters) expect(message).toContain(name);
  });

  test('access modes that a volume cannot have', () => {
    expect(planned({}, { accessModes: ['ReadWriteOncePod'] }).volume).toBeDefined();
    expect(refusal({}, { accessModes: ['ReadWriteMany'] })).toContain('got ReadWriteMany');
    expect(refusal({}, { accessModes: ['ReadWriteOnce', 'ReadOnlyMany'] })).toContain('got ReadOnlyMany');
  });
});
