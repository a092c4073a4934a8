import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { hasCel } from './support/crds.ts';
import { sharedControlPlane } from './support/kubectl.ts';
import { manifest, mirror, snapshot, volume } from './support/manifests.ts';
import { type Rig, startRig } from './support/rig.ts';

const plane = inject('controlPlane');

describe.skipIf('unavailable' in plane)('what is wrong with an object is said', () => {
  let rig: Rig;
  let namespace: string;

  beforeAll(async () => {
    rig = await startRig(sharedControlPlane());
  });

  beforeEach(async () => {
    namespace = await rig.namespace();
  });

  afterAll(() => rig?.remove());

  /** The message of Ready=False with that reason. */
  async function complaint(kind: string, name: string, reason: string): Promise<string> {
    const object = await rig.reaches(kind, name, namespace, { type: 'Ready', status: 'False', reason });
    return object.status?.conditions?.find(({ type }) => type === 'Ready')?.message ?? '';
  }

  test('a node without an agent', async () => {
    await rig.apply(volume(namespace, 'data', { nodeName: 'node-x' }));
    expect(await complaint('primaryvolume', 'data', 'NoAgent')).toContain('node-x');
  });

  test('a pool that the node does not have, with those that it has', async () => {
    await rig.apply(volume(namespace, 'data', { pool: 'fast' }));
    expect(await complaint('primaryvolume', 'data', 'PoolNotFound')).toMatch(/fast.*node-a.*buffer, main/);
  });

  test('a size that is no whole number of blocks', async () => {
    await rig.apply(volume(namespace, 'data', { size: 1_000_000 }));
    expect(await complaint('primaryvolume', 'data', 'Invalid')).toContain(
      'spec.size: expected a multiple of blockSize',
    );
  });

  test('a mirror of nothing, until the volume is there', async () => {
    await rig.apply(mirror(namespace, 'copy', 'data'));
    expect(await complaint('standbymirror', 'copy', 'VolumeNotFound')).toContain('data');

    await rig.apply(volume(namespace, 'data'));
    await rig.reaches('standbymirror', 'copy', namespace, { type: 'InSync', status: 'True' });
  });

  test('a mirror on the node of its primary', async () => {
    await rig.apply(volume(namespace, 'data'), mirror(namespace, 'copy', 'data', { nodeName: 'node-a' }));
    expect(await complaint('standbymirror', 'copy', 'NodeHasCopy')).toContain('node-a');
  });

  test('a snapshot of nothing, and one of a mirror without a buffer', async () => {
    await rig.apply(
      snapshot(namespace, 'of-nothing', 'no-mirror'),
      volume(namespace, 'data'),
      mirror(namespace, 'bare', 'data', { buffer: undefined }),
      snapshot(namespace, 'of-bare', 'bare'),
    );
    expect(await complaint('snapshot', 'of-nothing', 'SourceNotFound')).toContain('no-mirror');
    expect(await complaint('snapshot', 'of-bare', 'NoBuffer')).toContain('spec.buffer');
  });

  test('a combination that only CEL or the operator can see', async () => {
    const both = volume(namespace, 'data', { nodeSelector: { zone: 'a' } });
    const applied = await rig.kubectl.try(['apply', '-f', '-'], manifest(both));
    const rule = 'exactly one of nodeName and nodeSelector';
    if (hasCel(sharedControlPlane().version)) expect(applied.stderr).toContain(rule);
    else expect(await complaint('primaryvolume', 'data', 'Invalid')).toContain(rule);
  });

  test('a change of what cannot change; it is not made, and taking it back mends it', async () => {
    await rig.apply(volume(namespace, 'data'));
    await rig.reaches('primaryvolume', 'data', namespace, { type: 'Ready', status: 'True' });

    const moved = await rig.kubectl.try(
      ['apply', '-f', '-'],
      manifest(volume(namespace, 'data', { nodeName: 'node-b' })),
    );
    if (hasCel(sharedControlPlane().version)) {
      expect(moved.stderr).toContain('it cannot change');
      return;
    }
    expect(await complaint('primaryvolume', 'data', 'Invalid')).toContain('spec.nodeName');
    const status = (await rig.kubectl.get('primaryvolume', 'data', namespace))?.status;
    expect(status).toMatchObject({ node: 'node-a', epoch: 1 });

    await rig.apply(volume(namespace, 'data'));
    await rig.reaches('primaryvolume', 'data', namespace, { type: 'Ready', status: 'True' });
  });

  test('none of them keeps a namespace from going', async ({ skip }) => {
    skip(!sharedControlPlane().hasControllerManager, 'the control plane has no controller manager');
    const wrong = [
      volume(namespace, 'nowhere', { nodeName: 'node-x' }),
      volume(namespace, 'odd', { size: 1_000_000 }),
      mirror(namespace, 'of-nothing', 'no-volume'),
      mirror(namespace, 'of-nowhere', 'nowhere'),
      snapshot(namespace, 'of-nothing', 'no-mirror'),
    ];
    await rig.apply(...wrong);
    await complaint('primaryvolume', 'nowhere', 'NoAgent');
    await complaint('snapshot', 'of-nothing', 'SourceNotFound');
    await rig.kubectl.run(['delete', 'namespace', '--wait=false', namespace]);
    await rig.vanishes('namespace', namespace, undefined);
  });
});
