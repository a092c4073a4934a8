import { expect, test } from 'vitest';
import type { VolumeView } from '../../../agent/api/contract/volumes.ts';
import { movedSource, planSource } from '../../../operator/planning/plan-source.ts';
import type { VolumeSource } from '../../../operator/planning/volume-world.ts';
import { restoreUidLabel } from '../../../operator/resources/group.ts';
import type { PrimaryVolume } from '../../../operator/resources/primary-volume.ts';
import { type SnapshotRestore, snapshotRestoreSpecSchema } from '../../../operator/resources/snapshot-restore.ts';

const apiVersion = 'understudy.dev/v1alpha1';
const meta = (name: string) => ({ name, namespace: 'shop', uid: `${name}-uid`, resourceVersion: '1', generation: 1 });
const from = { node: 'node-b', volume: 'pv-data', uid: 'data-uid', snapshot: 'snap-s' };
const origin = { ...from, address: 'b:7072' };

const restore: SnapshotRestore = {
  apiVersion,
  kind: 'SnapshotRestore',
  metadata: meta('copy'),
  spec: snapshotRestoreSpecSchema.parse({ snapshot: 's', newVolume: { name: 'new', nodeName: 'node-a' } }),
  status: { source: { ...from, heldFor: 'node-a' } },
};
const source: VolumeSource = { restore, address: 'b:7072' };

function labelled(uid: string): PrimaryVolume {
  return { metadata: { ...meta('new'), labels: { [restoreUidLabel]: uid } } } as unknown as PrimaryVolume;
}

test('a volume begins only when its snapshot is kept for it and its node may read it', () => {
  const own = labelled('copy-uid');
  const plan = (of: VolumeSource | undefined, volume = own, node = 'node-a') => planSource(of, volume, 'copy', node);
  expect(plan(source)).toEqual({ origin });
  expect(plan(undefined)).toMatchObject({ message: expect.stringMatching(/no SnapshotRestore copy/) });
  expect(plan(source, labelled('another'))).toMatchObject({ message: expect.stringMatching(/not the one that made/) });
  expect(plan(source, own, 'node-c')).toMatchObject({
    message: expect.stringMatching(/not made its snapshot readable/),
  });
  expect(plan({ restore, address: undefined })).toMatchObject({ message: expect.stringMatching(/no agent.*node-b/) });
});

test('an agent is told of another address of the source while it fills from it, once', () => {
  const seen = (filling: object) => ({ filling }) as unknown as VolumeView;
  const filling = { state: 'Filling', volume: 'pv-data', address: 'old:7072' };
  expect(movedSource(source, seen(filling))).toEqual(origin);
  expect(movedSource(source, seen({ ...filling, address: 'b:7072' }))).toBeUndefined();
  expect(movedSource(source, seen({ ...filling, state: 'Filled' }))).toBeUndefined();
  expect(movedSource({ restore, address: undefined }, seen(filling))).toBeUndefined();
});
