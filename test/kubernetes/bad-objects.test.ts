import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { namespaces } from '../../operator/resources/core-kinds.ts';
import { primaryVolumes } from '../../operator/resources/primary-volume.ts';
import type { Resource } from '../../operator/resources/resource.ts';
import { snapshots } from '../../operator/resources/snapshot.ts';
import { standbyMirrors } from '../../operator/resources/standby-mirror.ts';
import { hasCel } from './support/crds.ts';
import { sharedControlPlane } from './support/kubectl.ts';
import { manifest, mirror, snapshot, volume } from './support/manifests.ts';
import { type ConditionedObject, messageOf, type Rig, startRig } from './support/rig.ts';

const plane = inject('controlPlane');

describe.skipIf('unavailable' in plane)('what is wrong with an object is said in a condition', () => {
  let rig: Rig;
  let namespace: string;
  let cel: boolean;

  beforeAll(async () => {
    rig = await startRig(sharedControlPlane());
    cel = hasCel(sharedControlPlane().version);
    namespace = await rig.namespace();
    await rig.apply(
      volume(namespace, 'nowhere', { nodeName: 'node-x' }),
      volume(namespace, 'no-pool', { pool: 'fast' }),
      volume(namespace, 'in-the-buffer', { pool: 'buffer' }),
      volume(namespace, 'odd', { size: 1_000_000 }),
      volume(namespace, 'data'),
      mirror(namespace, 'of-nothing', 'later'),
      mirror(namespace, 'beside', 'data', { nodeName: 'node-a' }),
      mirror(namespace, 'bare', 'data', { buffer: undefined }),
      snapshot(namespace, 'of-nothing', 'no-mirror'),
      snapshot(namespace, 'of-bare', 'bare'),
    );
  });

  afterAll(() => rig?.remove());

  const kinds: Record<'volume' | 'mirror' | 'snapshot', Resource<ConditionedObject>> = {
    volume: primaryVolumes,
    mirror: standbyMirrors,
    snapshot: snapshots,
  };

  test.for([
    ['volume', 'nowhere', 'NoAgent', /node-x/],
    ['volume', 'no-pool', 'PoolNotFound', /pool fast of node node-a, but the node has buffer, main/],
    ['volume', 'in-the-buffer', 'WrongPurpose', /pool buffer of node node-a is for buffers only/],
    ['volume', 'odd', 'Invalid', /spec\.size: expected a multiple of 4096 bytes, got 1000000/],
    ['mirror', 'of-nothing', 'VolumeNotFound', /later/],
    ['mirror', 'beside', 'NodeHasCopy', /node-a has the primary/],
    ['snapshot', 'of-nothing', 'SourceNotFound', /no-mirror/],
    ['snapshot', 'of-bare', 'NoBuffer', /bare has no buffer.*spec\.buffer/],
  ] as const)('the %s "%s": %s', async ([kind, name, reason, message]) => {
    const complaint = { type: 'Ready', status: 'False', reason } as const;
    expect(messageOf(await rig.reaches(kinds[kind], namespace, name, complaint), 'Ready')).toMatch(message);
  });

  test('a combination that the API server lets pass without CEL', async () => {
    const both = volume(namespace, 'both', { nodeSelector: { zone: 'a' } });
    const applied = await rig.kubectl.try(['apply', '-f', '-'], manifest(both));
    const rule = 'exactly one of nodeName and nodeSelector';
    if (cel) return expect(applied.stderr).toContain(rule);
    const invalid = { type: 'Ready', status: 'False', reason: 'Invalid' } as const;
    expect(messageOf(await rig.reaches(primaryVolumes, namespace, 'both', invalid), 'Ready')).toContain(rule);
  });

  test('a change of what cannot change: nothing moves, and taking it back mends it', async () => {
    const ready = { type: 'Ready', status: 'True' } as const;
    await rig.reaches(primaryVolumes, namespace, 'data', ready);

    const moved = manifest(volume(namespace, 'data', { nodeName: 'node-b' }));
    const applied = await rig.kubectl.try(['apply', '-f', '-'], moved);
    if (cel) return expect(applied.stderr).toContain('it cannot change');
    const invalid = { type: 'Ready', status: 'False', reason: 'Invalid' } as const;
    const object = await rig.reaches(primaryVolumes, namespace, 'data', invalid);
    expect(messageOf(object, 'Ready')).toMatch(/spec\.nodeName: expected the value it was created with/);
    expect(object.status).toMatchObject({ node: 'node-a', epoch: 1 });

    await rig.apply(volume(namespace, 'data'));
    await rig.reaches(primaryVolumes, namespace, 'data', ready);
  });

  test('what was missing and comes later is noticed', async () => {
    await rig.apply(volume(namespace, 'later'));
    await rig.reaches(standbyMirrors, namespace, 'of-nothing', { type: 'InSync', status: 'True' });
  });

  test('none of them keeps their namespace from going', async ({ skip }) => {
    skip(!sharedControlPlane().hasControllerManager, 'the control plane has no controller manager');
    await rig.kubectl.run(['delete', 'namespace', '--wait=false', namespace]);
    await rig.vanishes(namespaces, undefined, namespace);
    await rig.expectNothingLeft();
  });
});
