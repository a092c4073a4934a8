/**
 * What every CSI driver must answer, whatever it stores: missing arguments, unknown volumes, capabilities. The service of
 * a real agent on its real socket.
 */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { statusCode } from '../../common/csi/csi-error.ts';
import { type AgentProcess, startAgent } from '../kubernetes/support/agent-process.ts';
import { mountingImpossible } from '../support/mount-host.ts';
import { block, type CsiClient, csiClient, filesystem, refusal, registrationClient } from './support/csi-client.ts';
import { csiConfig } from './support/node.ts';

const impossible = await mountingImpossible();

describe.skipIf(impossible)(`the CSI node service${impossible ? ` (skipped: ${impossible})` : ''}`, () => {
  let agent: AgentProcess;
  let csi: CsiClient;
  beforeAll(async () => {
    agent = await startAgent('node-a', 'fuse', csiConfig);
    csi = csiClient(join(agent.directory, 'csi.sock'));
  });
  afterAll(async () => {
    csi?.close();
    await agent?.remove();
  });

  test('says who it is', async () => {
    const info = await csi.identity.getPluginInfo();
    expect(info.name).toBe('csi.understudy.dev');
    expect(info.vendorVersion).toMatch(/^\d+\.\d+\.\d+/);
    expect(await csi.identity.probe()).toEqual({ ready: { value: true } });
    const { capabilities } = await csi.identity.getPluginCapabilities();
    expect(capabilities).toContainEqual(
      expect.objectContaining({ service: { type: 'VOLUME_ACCESSIBILITY_CONSTRAINTS' } }),
    );
  });

  test('says where it is, and what it can do', async () => {
    expect(await csi.node.nodeGetInfo()).toMatchObject({
      nodeId: 'node-a',
      accessibleTopology: { segments: { 'topology.understudy.dev/node': 'node-a' } },
    });
    const types = (await csi.node.nodeGetCapabilities()).capabilities.map(({ rpc }) => rpc.type);
    expect(types).toEqual(expect.arrayContaining(['STAGE_UNSTAGE_VOLUME', 'GET_VOLUME_STATS', 'EXPAND_VOLUME']));
  });

  test('makes itself known to the kubelet on a socket of its own, that only root can use', async () => {
    const folder = join(agent.directory, 'plugins');
    expect(await readdir(folder)).toEqual(['csi.understudy.dev-reg.sock']);
    expect((await stat(join(agent.directory, 'csi.sock'))).mode & 0o777).toBe(0o600);
    const { plugin, close } = registrationClient(join(folder, 'csi.understudy.dev-reg.sock'));
    expect(await plugin.getInfo()).toEqual({
      type: 'CSIPlugin',
      name: 'csi.understudy.dev',
      endpoint: join(agent.directory, 'csi.sock'),
      supportedVersions: ['1.0.0'],
    });
    await plugin.notifyRegistrationStatus({ pluginRegistered: true });
    close();
  });

  const id = 'pv-unknown';
  const path = '/tmp/understudy-nowhere';
  const capability = filesystem();

  test.each([
    [
      'stage without a volume id',
      () => csi.node.nodeStageVolume({ stagingTargetPath: path, volumeCapability: capability }),
    ],
    ['stage without a path', () => csi.node.nodeStageVolume({ volumeId: id, volumeCapability: capability })],
    ['stage without a capability', () => csi.node.nodeStageVolume({ volumeId: id, stagingTargetPath: path })],
    ['unstage without a volume id', () => csi.node.nodeUnstageVolume({ stagingTargetPath: path })],
    ['unstage without a path', () => csi.node.nodeUnstageVolume({ volumeId: id })],
    [
      'publish without a volume id',
      () => csi.node.nodePublishVolume({ targetPath: path, volumeCapability: capability }),
    ],
    ['publish without a path', () => csi.node.nodePublishVolume({ volumeId: id, volumeCapability: capability })],
    ['publish without a capability', () => csi.node.nodePublishVolume({ volumeId: id, targetPath: path })],
    ['unpublish without a volume id', () => csi.node.nodeUnpublishVolume({ targetPath: path })],
    ['unpublish without a path', () => csi.node.nodeUnpublishVolume({ volumeId: id })],
    ['stats without a volume id', () => csi.node.nodeGetVolumeStats({ volumePath: path })],
    ['stats without a path', () => csi.node.nodeGetVolumeStats({ volumeId: id })],
    ['expand without a volume id', () => csi.node.nodeExpandVolume({ volumePath: path })],
    ['expand without a path', () => csi.node.nodeExpandVolume({ volumeId: id })],
    ['a path that is not plain', () => csi.node.nodeUnpublishVolume({ volumeId: id, targetPath: `${path}/../etc` })],
    ['a filesystem that is not known', () => stage(filesystem('SINGLE_NODE_WRITER', { fsType: 'ntfs' }))],
    ['a live volume on several nodes', () => stage(filesystem('MULTI_NODE_MULTI_WRITER'))],
    ['a snapshot that is to be written to', () => stage(filesystem('SINGLE_NODE_WRITER'), `${id}@daily`)],
    ['a capability without an access mode', () => stage({ mount: { fsType: '', mountFlags: [] } })],
    ['a capability without an access type', () => stage({ accessMode: { mode: 'SINGLE_NODE_WRITER' } })],
  ])('%s is an invalid argument', async (_, call) => {
    expect((await refusal(call())).code).toBe(statusCode.INVALID_ARGUMENT);
  });

  function stage(volumeCapability: ReturnType<typeof filesystem>, volumeId = id): Promise<object> {
    return csi.node.nodeStageVolume({ volumeId, stagingTargetPath: path, volumeCapability });
  }

  test.each([
    ['stage', () => stage(capability)],
    ['stage of a block volume', () => stage(block())],
    ['stage of a snapshot', () => stage(filesystem('MULTI_NODE_READER_ONLY'), `${id}@daily`)],
    ['stage of the latest', () => stage(filesystem('MULTI_NODE_READER_ONLY'), `${id}@latest`)],
    ['stage of what is no handle', () => stage(capability, 'No Volume/Of Ours')],
    ['publish', () => publish({})],
    ['stats', () => csi.node.nodeGetVolumeStats({ volumeId: id, volumePath: path })],
    ['expand', () => csi.node.nodeExpandVolume({ volumeId: id, volumePath: path })],
  ])('%s of an unknown volume: not found', async (_, call) => {
    const { code, details } = await refusal(call());
    expect(code, details).toBe(statusCode.NOT_FOUND);
  });

  function publish(request: object): Promise<object> {
    const asked = { volumeId: id, stagingTargetPath: path, targetPath: path, volumeCapability: capability };
    return csi.node.nodePublishVolume({ ...asked, ...request });
  }

  test('publishing without a staging path is a failed precondition', async () => {
    expect((await refusal(publish({ stagingTargetPath: '' }))).code).toBe(statusCode.FAILED_PRECONDITION);
  });

  test.each([
    ['unstage', () => csi.node.nodeUnstageVolume({ volumeId: id, stagingTargetPath: path })],
    ['unpublish', () => csi.node.nodeUnpublishVolume({ volumeId: id, targetPath: path })],
    ['unpublish of what is no handle', () => csi.node.nodeUnpublishVolume({ volumeId: 'No', targetPath: path })],
  ])('%s of what is not there succeeds', async (_, call) => {
    expect(await call()).toEqual({});
  });
});
