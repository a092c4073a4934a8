/** From CreateVolume to the content of a snapshot: the operator's controller service and an agent's node service together. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../common/clock.ts';
import { statusCode } from '../../common/csi/csi-error.ts';
import { silentLog } from '../../common/log.ts';
import { staticAgentDirectory } from '../../operator/agent-client/agent-client.ts';
import { HttpAgentClient } from '../../operator/agent-client/http-agent-client.ts';
import { startCsiController } from '../../operator/csi/start-csi-controller.ts';
import { applyManifest } from '../../operator/kube/apply.ts';
import { InMemoryKubeApi } from '../../operator/kube/in-memory-kube-api.ts';
import { type Operator, startOperator } from '../../operator/start-operator.ts';
import { type AgentProcess, startAgent } from '../kubernetes/support/agent-process.ts';
import { leftovers, mountingImpossible } from '../support/mount-host.ts';
import { controllerClient, filesystem, refusal } from './support/csi-client.ts';
import { csiConfig, Kubelet, reader } from './support/node.ts';

const impossible = await mountingImpossible();
const mebibyte = 1024 * 1024;

describe.skipIf(impossible)(`controller and node${impossible ? ` (skipped: ${impossible})` : ''}`, () => {
  let agent: AgentProcess;
  let kubelet: Kubelet;
  let operator: Operator;
  let server: { close(): Promise<void> };
  let sideCar: ReturnType<typeof controllerClient>;

  beforeAll(async () => {
    agent = await startAgent('node-a', 'fuse', csiConfig);
    kubelet = new Kubelet(agent);
    const api = new InMemoryKubeApi({ namespaces: ['default'] });
    const { mirrorAddress } = agent;
    const client = new HttpAgentClient({ node: 'node-a', url: `http://${agent.apiAddress}`, clock: systemClock });
    const agents = staticAgentDirectory([{ node: 'node-a', mirrorAddress, client }]);
    operator = startOperator({ api, agents, log: silentLog, intervals: { transitionalMs: 50, idleMs: 500 } });
    for (const [name, purpose] of [['main', 'volumes'] as const, ['buffer', 'buffer'] as const]) {
      const spec = `{ node: node-a, name: ${name}, directory: ${agent.pools[name]}, purpose: ${purpose} }`;
      const kind = 'apiVersion: understudy.dev/v1alpha1\nkind: NodePool';
      await applyManifest(api, `${kind}\nmetadata: { name: node-a-${name} }\nspec: ${spec}\n`, {
        namespace: 'default',
      });
    }
    const socket = join(agent.directory, 'controller.sock');
    server = await startCsiController({
      socket,
      version: '1.2.3',
      api,
      defaultNamespace: 'default',
      namespace: undefined,
      isReady: () => true,
      clock: systemClock,
      log: silentLog,
    });
    sideCar = controllerClient(socket);
  });

  afterAll(async () => {
    sideCar?.close();
    await server?.close();
    await operator?.stop();
    kubelet?.csi.close();
    await agent?.remove();
  });

  test('a volume is made, written, snapshotted, read, grown and deleted', async () => {
    const { controller } = sideCar;
    const capability = filesystem('SINGLE_NODE_WRITER', { fsType: 'xfs' });
    const { volume } = await controller.createVolume({
      name: 'pvc-1',
      volumeCapabilities: [capability],
      capacityRange: { requiredBytes: 400 * mebibyte, limitBytes: 0 },
      parameters: {
        mirror: 'false',
        bufferPool: 'buffer',
        bufferCapacity: '256Mi',
        provisioning: 'Sparse',
        fsType: 'xfs',
      },
    });
    const { volumeId, volumeContext: context } = volume;
    await kubelet.stage(volumeId, capability, context);
    const live = await kubelet.publish(volumeId, 'writer', capability, { context });
    await writeFile(join(live, 'file'), 'before', { flush: true });

    const { snapshot } = await controller.createSnapshot({ sourceVolumeId: volumeId, name: 'snapshot-1' });
    await writeFile(join(live, 'file'), 'after', { flush: true });
    const { snapshotId } = snapshot;
    await kubelet.stage(snapshotId, filesystem(reader), context);
    const backup = await kubelet.publish(snapshotId, 'backup', filesystem(reader), { context });
    expect(await readFile(join(backup, 'file'), 'utf8')).toBe('before');
    const used = await refusal(controller.deleteSnapshot({ snapshotId }));
    expect(used.code).toBe(statusCode.FAILED_PRECONDITION);
    expect(used.details).toMatch(/default\/backup/);
    await kubelet.unpublish(snapshotId, 'backup');
    await kubelet.unstage(snapshotId);
    await controller.deleteSnapshot({ snapshotId });

    await kubelet.unpublish(volumeId, 'writer');
    await kubelet.unstage(volumeId);
    const capacityRange = { requiredBytes: 600 * mebibyte, limitBytes: 0 };
    const grown = await controller.controllerExpandVolume({ volumeId, capacityRange });
    expect(grown).toEqual({ capacityBytes: 600 * mebibyte, nodeExpansionRequired: true });
    await kubelet.stage(volumeId, capability, context);
    const volumePath = await kubelet.publish(volumeId, 'writer', capability, { context });
    await kubelet.csi.node.nodeExpandVolume({ volumeId, volumePath, capacityRange });
    const { usage } = await kubelet.csi.node.nodeGetVolumeStats({ volumeId, volumePath });
    expect(usage[0]?.total).toBeGreaterThan(500 * mebibyte);
    expect(await readFile(join(volumePath, 'file'), 'utf8')).toBe('after');
    await kubelet.unpublish(volumeId, 'writer');
    await kubelet.unstage(volumeId);

    await controller.deleteVolume({ volumeId });
    expect(await agent.volumes()).toEqual([]);
    expect(await agent.poolContents()).toEqual([]);
    expect(await leftovers(agent.directory)).toEqual([]);
  });
});
