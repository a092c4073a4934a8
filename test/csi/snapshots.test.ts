/** Snapshots of a mirror for pods on the standby's node, on real mounts of real agents. */
import { execFileSync } from 'node:child_process';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readLoopDevices } from '../../agent/attach/host-state.ts';
import { statusCode } from '../../common/csi/csi-error.ts';
import { call, expectOk, type Problem, TwoAgents, view, volume } from '../agents/cluster.ts';
import { leftovers, mountingImpossible } from '../support/mount-host.ts';
import { waitFor } from '../support/wait-for.ts';
import { block, filesystem, refusal } from './support/csi-client.ts';
import { csiConfig, Kubelet, optionsAt, reader } from './support/node.ts';

const impossible = await mountingImpossible();
const size = 64 * 1024 * 1024;
const latest = `${volume}@latest`;

describe.skipIf(impossible)(`snapshots over CSI${impossible ? ` (skipped: ${impossible})` : ''}`, () => {
  let agents: TwoAgents;
  /** The kubelets of the node with the primary and of that with the standby. */
  let a: Kubelet;
  let b: Kubelet;
  let live: string;

  beforeAll(async () => {
    agents = await TwoAgents.start('fuse', csiConfig);
    await agents.mirrored({ primary: { size }, standby: { size } });
    a = new Kubelet(agents.a);
    b = new Kubelet(agents.b);
    await a.stage(volume);
    live = await a.publish(volume, 'writer');
  });
  afterAll(async () => {
    // While the standby can still acknowledge what is written back.
    await a?.unpublish(volume, 'writer');
    await a?.unstage(volume);
    a?.csi.close();
    b?.csi.close();
    await agents?.remove();
  });

  /** Takes a snapshot in which the file says its name. */
  async function snapshot(name: string): Promise<void> {
    await writeFile(join(live, 'file'), name, { flush: true });
    expectOk(await agents.snapshot(name));
  }

  function deletion(name: string) {
    return call<Problem>(agents.b, 'DELETE', `/v1/volumes/${volume}/snapshots/${name}`);
  }

  const fileOf = (target: string) => readFile(join(target, 'file'), 'utf8');

  test('the live volume is refused where it is a standby, and the error says where it is', async () => {
    const { code, details } = await refusal(b.stage(volume));
    expect(code).toBe(statusCode.FAILED_PRECONDITION);
    expect(details).toMatch(/standby on node node-b, its primary is at (::ffff:)?127\.0\.0\.1/);
  });

  test('before there is a snapshot, the latest is unavailable; staging it does nothing', async () => {
    await b.stage(latest, filesystem(reader));
    const { code, details } = await refusal(b.publish(latest, 'early', filesystem(reader)));
    expect(code).toBe(statusCode.UNAVAILABLE);
    expect(details).toMatch(/no snapshot on node node-b that is ready/);
  });

  test('many pods share one device of a snapshot, each read-only, and their names keep it', async () => {
    await snapshot('shared');
    const handle = `${volume}@shared`;
    const devices = async () => (await readLoopDevices()).filter(({ backingFile }) => backingFile.includes(volume));
    const before = (await devices()).length;
    await b.stage(handle, filesystem(reader));
    const pods = ['one', 'two', 'three'];
    for (const pod of pods) {
      const target = await b.publish(handle, pod, filesystem(reader));
      expect(await fileOf(target)).toBe('shared');
      await expect(writeFile(join(target, 'new'), '')).rejects.toThrow('EROFS');
      expect(await optionsAt(target)).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev']));
    }
    expect(await devices()).toHaveLength(before + 1);
    const held = (await view(agents.b)).snapshots.find(({ name }) => name === 'shared');
    expect(held?.usedBy).toEqual(['default/one', 'default/two', 'default/three']);
    const refused = await deletion('shared');
    expect(refused).toMatchObject({ status: 409, body: { code: 'InUse' } });
    expect(refused.body.detail).toMatch(/default\/one, default\/two, default\/three/);

    // In any order, the first one included: the others keep what they have.
    await b.unpublish(handle, 'one');
    await b.unstage(handle);
    expect(await fileOf(b.target('two'))).toBe('shared');
    await b.unpublish(handle, 'two');
    expect((await deletion('shared')).body.detail).toMatch(/mounted for default\/three:/);
    expect(await fileOf(b.target('three'))).toBe('shared');
    await b.unpublish(handle, 'three');
    expect(await devices()).toHaveLength(before);
    expect((await deletion('shared')).status).toBe(204);
    expect(await refusal(b.stage(handle, filesystem(reader)))).toMatchObject({ code: statusCode.NOT_FOUND });
  });

  test('the latest is the newest at the time of the mount, and stays that, also over the death of the agent', async () => {
    await snapshot('first');
    const first = await b.publish(latest, 'pod-1', filesystem(reader));
    expect(await fileOf(first)).toBe('first');
    await snapshot('second');
    const second = await b.publish(latest, 'pod-2', filesystem(reader));
    expect(await fileOf(second)).toBe('second');
    // Asked again, a pod keeps the snapshot that it has.
    await b.publish(latest, 'pod-1', filesystem(reader));
    expect(await fileOf(first)).toBe('first');

    await agents.b.kill();
    await agents.b.start();
    b.csi.close();
    b = new Kubelet(agents.b);
    // With this driver the mounts are gone; the pin is not, and it is what a repeated call mounts.
    expect(await optionsAt(first)).toBeUndefined();
    expect((await deletion('first')).body.detail).toMatch(/default\/pod-1/);
    await b.publish(latest, 'pod-1', filesystem(reader));
    expect(await fileOf(first)).toBe('first');
    expect((await deletion('second')).body.detail).toMatch(/default\/pod-2/);

    for (const pod of ['pod-1', 'pod-2']) await b.unpublish(latest, pod);
    expect((await deletion('first')).status).toBe(204);
    expect((await deletion('second')).status).toBe(204);
    await b.unstage(latest);
    expect(await leftovers(agents.b.directory)).toEqual([]);
  });

  test('a pod whose folder is gone when the agent starts keeps nothing any more', async () => {
    await agents.inSync();
    await snapshot('orphan');
    await b.publish(latest, 'gone', filesystem(reader));
    await agents.b.kill();
    const pod = join(agents.b.directory, 'kubelet', 'pods', 'gone');
    // As after a reboot and the removal of the pod: no mount, no folder.
    execFileSync('sh', ['-c', `umount ${pod}/mount; rm -rf ${pod}`]);
    await agents.b.start();
    b.csi.close();
    b = new Kubelet(agents.b);
    expect((await deletion('orphan')).status).toBe(204);
  });

  test.each(['staging', 'publishing'])('killed while %s, the agent does it when it is asked again', async (what) => {
    await agents.inSync();
    await snapshot(`killed-${what}`);
    const handle = what === 'staging' ? `${volume}@killed-staging` : latest;
    const begin = () =>
      what === 'staging' ? b.stage(handle, filesystem(reader)) : b.publish(handle, what, filesystem(reader));
    const file = join(agents.b.directory, 'state', 'csi', 'csi.json');
    const cut = begin().then(
      () => 'it was over before',
      () => undefined,
    );
    await waitFor(async () => (await readFile(file, 'utf8')).includes(`killed-${what}`), {
      timeoutMs: 30_000,
      intervalMs: 1,
    });
    await agents.b.kill();
    expect(await cut).toBeUndefined();
    await agents.b.start();
    b.csi.close();
    b = new Kubelet(agents.b);
    expect((await deletion(`killed-${what}`)).body.code).toBe('InUse');
    await begin();
    const target = what === 'staging' ? b.staging(handle) : b.target(what);
    expect(await fileOf(target)).toBe(`killed-${what}`);
    await (what === 'staging' ? b.unstage(handle) : b.unpublish(handle, what));
    expect((await deletion(`killed-${what}`)).status).toBe(204);
    expect(await leftovers(agents.b.directory)).toEqual([]);
  });

  test('a snapshot as a raw device refuses writes', async () => {
    await agents.inSync();
    await snapshot('raw');
    const handle = `${volume}@raw`;
    await b.stage(handle, block(reader));
    const target = await b.publish(handle, 'raw', block(reader));
    expect((await stat(target)).isBlockDevice()).toBe(true);
    expect(execFileSync('blockdev', ['--getro', '--getsize64', target], { encoding: 'utf8' })).toBe(`1\n${size}\n`);
    const { usage, volumeCondition } = await b.csi.node.nodeGetVolumeStats({ volumeId: handle, volumePath: target });
    expect(usage).toMatchObject([{ unit: 'BYTES', total: size }]);
    expect(volumeCondition).toMatchObject({ abnormal: false });
    await b.unpublish(handle, 'raw');
    await b.unstage(handle);
    expect(await leftovers(agents.b.directory)).toEqual([]);
  });

  test('on the node of the primary, snapshots of the primary itself are the latest', async () => {
    expect((await refusal(a.publish(latest, 'here', filesystem(reader)))).details).toMatch(
      /no snapshot on node node-a/,
    );
  });
});
