/** Live volumes for pods, on real mounts of a real agent. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { access, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { statusCode } from '../../common/csi/csi-error.ts';
import { expectOk, put } from '../agents/cluster.ts';
import { type AgentProcess, startAgent } from '../kubernetes/support/agent-process.ts';
import { leftovers, mountingImpossible } from '../support/mount-host.ts';
import { block, filesystem, refusal } from './support/csi-client.ts';
import { csiConfig, Kubelet, optionsAt } from './support/node.ts';

const impossible = await mountingImpossible();
const mebibyte = 1024 * 1024;

function mayResizeExt4(): boolean {
  const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return ((BigInt(`0x${capabilities}`) >> 24n) & 1n) === 1n;
}

describe.skipIf(impossible)(`live volumes over CSI${impossible ? ` (skipped: ${impossible})` : ''}`, () => {
  let agent: AgentProcess;
  let kubelet: Kubelet;

  beforeAll(async () => {
    agent = await startAgent('node-a', 'fuse', csiConfig);
    kubelet = new Kubelet(agent);
  });
  afterAll(async () => {
    kubelet?.csi.close();
    await agent?.remove();
  });

  async function volume(name: string, size = 400 * mebibyte): Promise<void> {
    const spec = { size, pool: 'main', role: 'primary', epoch: 1, uid: `uid-${name}`, provisioning: 'sparse' };
    expectOk(await put(agent, `/v1/volumes/${name}`, spec));
  }

  test.each(['ext4', 'xfs', 'btrfs'] as const)(
    '%s: staged, published, written, told how full, undone',
    async (fsType) => {
      const name = `pv-${fsType}`;
      await volume(name);
      const capability = filesystem('SINGLE_NODE_WRITER', { fsType });
      const context = { 'understudy.dev/uid': `uid-${name}` };
      for (let attempt = 0; attempt < 2; attempt += 1) await kubelet.stage(name, capability, context);
      const pod = `${fsType}-1`;
      let target = '';
      for (let attempt = 0; attempt < 2; attempt += 1)
        target = await kubelet.publish(name, pod, capability, { context });
      await writeFile(join(target, 'file'), 'content');

      const second = await kubelet.publish(name, `${fsType}-2`, capability, { readonly: true });
      expect(await readFile(join(second, 'file'), 'utf8')).toBe('content');
      await expect(writeFile(join(second, 'file'), 'other')).rejects.toThrow('EROFS');

      const { usage, volumeCondition } = await kubelet.csi.node.nodeGetVolumeStats({
        volumeId: name,
        volumePath: target,
      });
      expect(usage[0]).toMatchObject({ unit: 'BYTES' });
      expect(usage[0]?.total).toBeGreaterThan(200 * mebibyte);
      expect(usage.some(({ unit }) => unit === 'INODES')).toBe(fsType !== 'btrfs');
      expect(volumeCondition).toEqual({ abnormal: false, message: 'the volume is ready' });

      for (let attempt = 0; attempt < 2; attempt += 1) {
        await kubelet.unpublish(name, pod);
        await kubelet.unpublish(name, `${fsType}-2`);
      }
      await expect(access(target)).rejects.toThrow('ENOENT');
      for (let attempt = 0; attempt < 2; attempt += 1) await kubelet.unstage(name);
      expect((await stat(kubelet.staging(name))).isDirectory()).toBe(true);

      await kubelet.stage(name, capability);
      expect(await readFile(join(await kubelet.publish(name, pod, capability), 'file'), 'utf8')).toBe('content');
      await kubelet.unpublish(name, pod);
      await kubelet.unstage(name);
      expect(await leftovers(agent.directory)).toEqual([]);
    },
  );

  test('a raw device', async () => {
    await volume('pv-raw', 16 * mebibyte);
    await kubelet.stage('pv-raw', block());
    const target = await kubelet.publish('pv-raw', 'raw', block());
    expect((await stat(target)).isBlockDevice()).toBe(true);
    execFileSync('dd', ['if=/dev/urandom', `of=${target}`, 'bs=1M', 'count=1', 'conv=notrunc,fsync'], {
      stdio: 'ignore',
    });
    const { usage } = await kubelet.csi.node.nodeGetVolumeStats({ volumeId: 'pv-raw', volumePath: target });
    expect(usage).toMatchObject([{ unit: 'BYTES', total: 16 * mebibyte }]);
    await kubelet.unpublish('pv-raw', 'raw');
    await expect(access(target)).rejects.toThrow('ENOENT');
    await kubelet.unstage('pv-raw');

    // It holds something now, and is never formatted.
    const { code, details } = await refusal(kubelet.stage('pv-raw', filesystem()));
    expect(code).toBe(statusCode.FAILED_PRECONDITION);
    expect(details).toMatch(/never formatted/);
    expect(await leftovers(agent.directory)).toEqual([]);
  });

  test('mount flags and read-only access reach the mount', async () => {
    await volume('pv-flags');
    await kubelet.stage('pv-flags', filesystem());
    await kubelet.unstage('pv-flags');
    const capability = filesystem('SINGLE_NODE_READER_ONLY', { mountFlags: ['ro', 'noatime'] });
    await kubelet.stage('pv-flags', capability);
    const target = await kubelet.publish('pv-flags', 'flags', capability);
    expect(await optionsAt(target)).toEqual(expect.arrayContaining(['ro', 'noatime']));
    await kubelet.unpublish('pv-flags', 'flags');
    await kubelet.unstage('pv-flags');
    const evil = filesystem('SINGLE_NODE_WRITER', { mountFlags: ['loop'] });
    expect(await refusal(kubelet.stage('pv-flags', evil))).toMatchObject({ code: statusCode.INVALID_ARGUMENT });
  });

  test('what is asked for otherwise than before, unstaged, or of another uid, is refused', async () => {
    await volume('pv-other');
    await kubelet.stage('pv-other');
    const xfs = filesystem('SINGLE_NODE_WRITER', { fsType: 'xfs' });
    expect((await refusal(kubelet.stage('pv-other', xfs))).code).toBe(statusCode.ALREADY_EXISTS);
    await kubelet.publish('pv-other', 'one');
    const readonly = refusal(kubelet.publish('pv-other', 'one', filesystem(), { readonly: true }));
    expect((await readonly).code).toBe(statusCode.ALREADY_EXISTS);
    const single = filesystem('SINGLE_NODE_SINGLE_WRITER');
    expect(await refusal(kubelet.publish('pv-other', 'two', single))).toMatchObject({
      code: statusCode.FAILED_PRECONDITION,
      details: expect.stringContaining('default/one'),
    });
    await kubelet.unpublish('pv-other', 'one');
    await kubelet.unstage('pv-other');
    expect((await refusal(kubelet.publish('pv-other', 'one'))).details).toMatch(/is not staged/);
    const wrong = { 'understudy.dev/uid': 'uid-old' };
    expect(await refusal(kubelet.stage('pv-other', filesystem(), wrong))).toMatchObject({
      code: statusCode.FAILED_PRECONDITION,
      details: expect.stringContaining('uid-old'),
    });
  });

  test('calls for one volume exclude each other, and the one that was refused succeeds later', async () => {
    await volume('pv-busy');
    const outcomes = await Promise.allSettled([kubelet.stage('pv-busy'), kubelet.stage('pv-busy')]);
    const refused = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []));
    expect(refused).toMatchObject([{ code: statusCode.ABORTED }]);
    await kubelet.stage('pv-busy');
    await kubelet.unstage('pv-busy');
  });

  test('a volume in use is not unmounted, and who uses it is named', async () => {
    await volume('pv-held');
    await kubelet.stage('pv-held');
    const target = await kubelet.publish('pv-held', 'held');
    const holder = execFileSync('sh', ['-c', `sleep 600 < ${target} >/dev/null 2>&1 & echo $!`], { encoding: 'utf8' });
    const { code, details } = await refusal(kubelet.unpublish('pv-held', 'held'));
    process.kill(Number(holder));
    expect(code).toBe(statusCode.FAILED_PRECONDITION);
    expect(details).toMatch(/in use by sleep \(\d+\)/);
    await kubelet.unpublish('pv-held', 'held');
    await kubelet.unstage('pv-held');
  });

  // The kernel lets a mounted ext4 grow for those with CAP_SYS_RESOURCE only, which not every container has.
  const growing = mayResizeExt4() ? (['ext4', 'xfs', 'btrfs'] as const) : (['xfs', 'btrfs'] as const);

  test.each(growing)('%s grows with its volume', async (fsType) => {
    const name = `pv-grow-${fsType}`;
    const capability = filesystem('SINGLE_NODE_WRITER', { fsType });
    await volume(name);
    await kubelet.stage(name, capability);
    await kubelet.unstage(name);
    const capacityRange = { requiredBytes: 600 * mebibyte, limitBytes: 0 };
    await kubelet.stage(name, capability);
    const volumePath = await kubelet.publish(name, `grow-${fsType}`, capability);
    const early = await refusal(kubelet.csi.node.nodeExpandVolume({ volumeId: name, volumePath, capacityRange }));
    expect(early).toMatchObject({ code: statusCode.FAILED_PRECONDITION });
    await kubelet.unpublish(name, `grow-${fsType}`);
    await kubelet.unstage(name);

    await volume(name, 600 * mebibyte);
    await kubelet.stage(name, capability);
    await kubelet.publish(name, `grow-${fsType}`, capability);
    const total = async () =>
      (await kubelet.csi.node.nodeGetVolumeStats({ volumeId: name, volumePath })).usage[0]?.total ?? 0;
    const before = await total();
    for (let attempt = 0; attempt < 2; attempt += 1) {
      const expanded = await kubelet.csi.node.nodeExpandVolume({ volumeId: name, volumePath, capacityRange });
      expect(expanded).toEqual({ capacityBytes: 600 * mebibyte });
    }
    expect((await total()) - before).toBeGreaterThan(150 * mebibyte);
    await kubelet.unpublish(name, `grow-${fsType}`);
    await kubelet.unstage(name);
  });

  test('what is told to grow in use is refused, with what to do, and grows before it is next attached', async () => {
    const growing = { size: 32 * mebibyte, pool: 'main', role: 'primary', epoch: 1, uid: 'uid-pv-later' };
    expectOk(await put(agent, '/v1/volumes/pv-later', { ...growing, size: 16 * mebibyte }));
    await kubelet.stage('pv-later', block());
    const first = await kubelet.publish('pv-later', 'first', block());
    const refused = await put(agent, '/v1/volumes/pv-later', growing);
    expect(refused).toMatchObject({ status: 409, body: { code: 'InUse' } });
    expect(JSON.stringify(refused.body)).toContain('end or restart the pods that use the volume');
    const sizeAt = async (target: string) => Number(execFileSync('blockdev', ['--getsize64', target]));
    expect(await sizeAt(first)).toBe(16 * mebibyte);
    await kubelet.unpublish('pv-later', 'first');
    await kubelet.unstage('pv-later');

    await kubelet.stage('pv-later', block());
    expect(await sizeAt(await kubelet.publish('pv-later', 'second', block()))).toBe(32 * mebibyte);
    await kubelet.unpublish('pv-later', 'second');
    await kubelet.unstage('pv-later');
  });

  test('what it was told after that counts: it does not grow if it is not to any more', async () => {
    const small = { size: 16 * mebibyte, pool: 'main', role: 'primary', epoch: 1, uid: 'uid-pv-same' };
    expectOk(await put(agent, '/v1/volumes/pv-same', small));
    await kubelet.stage('pv-same', block());
    await kubelet.publish('pv-same', 'first', block());
    expect(await put(agent, '/v1/volumes/pv-same', { ...small, size: 32 * mebibyte })).toMatchObject({ status: 409 });
    expectOk(await put(agent, '/v1/volumes/pv-same', small));
    await kubelet.unpublish('pv-same', 'first');
    const target = await kubelet.publish('pv-same', 'second', block());
    expect(Number(execFileSync('blockdev', ['--getsize64', target]))).toBe(16 * mebibyte);
    await kubelet.unpublish('pv-same', 'second');
    await kubelet.unstage('pv-same');
  });

  test('after the agent was killed the kubelet asks again and finds everything', async () => {
    await volume('pv-killed');
    await kubelet.stage('pv-killed');
    const target = await kubelet.publish('pv-killed', 'killed');
    execFileSync('sh', ['-c', `echo content > ${target}/file && sync -f ${target}/file`]);
    await agent.kill();
    await agent.start();
    kubelet.csi.close();
    kubelet = new Kubelet(agent);
    expect(await optionsAt(target)).toBeUndefined();
    await kubelet.stage('pv-killed');
    await kubelet.publish('pv-killed', 'killed');
    expect(await readFile(join(target, 'file'), 'utf8')).toBe('content\n');
    await kubelet.unpublish('pv-killed', 'killed');
    await kubelet.unstage('pv-killed');
    expect(await leftovers(agent.directory)).toEqual([]);
  });
});
