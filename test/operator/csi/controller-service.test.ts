/** The controller service on its real socket, with the operator on an API in memory and simulated agents. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../../common/clock.ts';
import { statusCode } from '../../../common/csi/csi-error.ts';
import { silentLog } from '../../../common/log.ts';
import { startCsiController } from '../../../operator/csi/start-csi-controller.ts';
import { primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import { snapshots } from '../../../operator/resources/snapshot.ts';
import { standbyMirrors } from '../../../operator/resources/standby-mirror.ts';
import { block, controllerClient, filesystem, refusal } from '../../csi/support/csi-client.ts';
import { OperatorRig } from '../../support/operator-rig.ts';

const gibibyte = 2 ** 30;
const single = { mirror: 'false', bufferPool: 'buffer' };

let directory: string;
let rig: OperatorRig;
let server: Awaited<ReturnType<typeof startCsiController>>;
let client: ReturnType<typeof controllerClient>;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'us-csi-'));
  rig = new OperatorRig();
  rig.start();
  await rig.applyQuickstart('nodepools');
  const socket = join(directory, 'csi.sock');
  server = await startCsiController({
    socket,
    version: '1.2.3',
    api: rig.api,
    defaultNamespace: 'shop',
    namespace: undefined,
    isReady: () => true,
    clock: systemClock,
    log: silentLog,
  });
  client = controllerClient(socket);
});

afterEach(async () => {
  client.close();
  await server.close();
  await rig.stop();
  await rm(directory, { recursive: true, force: true });
});

async function create(name: string, changes: Parameters<typeof client.controller.createVolume>[0] = {}) {
  const { volume } = await client.controller.createVolume({
    name,
    volumeCapabilities: [filesystem()],
    parameters: single,
    ...changes,
  });
  return volume;
}

function bytes(requiredBytes: number, limitBytes = 0) {
  return { requiredBytes, limitBytes };
}

test('says who it is and what it can do', async () => {
  expect(await client.identity.getPluginInfo()).toMatchObject({ name: 'csi.understudy.dev', vendorVersion: '1.2.3' });
  expect(await client.identity.probe()).toEqual({ ready: { value: true } });
  const services = (await client.identity.getPluginCapabilities()).capabilities;
  expect(services).toContainEqual(expect.objectContaining({ service: { type: 'CONTROLLER_SERVICE' } }));
  const types = (await client.controller.controllerGetCapabilities()).capabilities.map(({ rpc }) => rpc.type);
  expect(types).toEqual(expect.arrayContaining(['CREATE_DELETE_VOLUME', 'CREATE_DELETE_SNAPSHOT', 'EXPAND_VOLUME']));
});

test('a volume is made once for a name, as a PrimaryVolume that says so', async () => {
  const volume = await create('pvc-1', { capacityRange: bytes(2 * gibibyte) });
  expect(await create('pvc-1', { capacityRange: bytes(2 * gibibyte) })).toEqual(volume);
  const object = await rig.volume('pvc-1');
  expect(volume).toMatchObject({
    volumeId: `pv-${object?.metadata.uid}`,
    capacityBytes: 2 * gibibyte,
    volumeContext: { 'understudy.dev/uid': object?.metadata.uid },
  });
  // A label that follows the primary, so that a failover does not leave the PersistentVolume behind.
  const [place] = volume.accessibleTopology;
  expect(Object.keys(place?.segments ?? {})).toEqual([
    expect.stringMatching(/^primary\.understudy\.dev\/[0-9a-f]{40}$/),
  ]);
  expect(object?.spec).toMatchObject({ size: 2 * gibibyte, claim: false });
  const other = await refusal(create('pvc-1', { capacityRange: bytes(3 * gibibyte) }));
  expect(other.code).toBe(statusCode.ALREADY_EXISTS);
  await create('pvc-1', { capacityRange: bytes(gibibyte, 4 * gibibyte) });
  const raw = await refusal(create('pvc-1', { capacityRange: bytes(gibibyte), volumeCapabilities: [block()] }));
  expect(raw).toMatchObject({ code: statusCode.ALREADY_EXISTS, details: expect.stringContaining('volumeMode') });
});

test('by default a volume has a mirror, in the namespace of its claim and on the node of its first pod', async () => {
  const volume = await create('pvc-2', {
    parameters: { 'csi.storage.k8s.io/pvc/namespace': 'default' },
    accessibilityRequirements: {
      preferred: [{ segments: { 'topology.understudy.dev/node': 'node-b' } }],
      requisite: [],
    },
  });
  const key = { namespace: 'default', name: 'pvc-2' };
  const object = await rig.api.get(primaryVolumes, key);
  expect(object?.status?.node).toBe('node-b');
  expect((await rig.api.get(standbyMirrors, key))?.spec.primaryVolumeRef).toEqual({ name: 'pvc-2' });
  await client.controller.deleteVolume({ volumeId: volume.volumeId });
  expect(await rig.api.get(primaryVolumes, key)).toBeUndefined();
  expect(await rig.api.get(standbyMirrors, key)).toBeUndefined();
  expect(await client.controller.deleteVolume({ volumeId: volume.volumeId })).toEqual({});
});

test.each([
  ['no name', { name: '' }],
  ['no capabilities', { volumeCapabilities: [] }],
  ['a capability without a type', { volumeCapabilities: [{ accessMode: { mode: 'SINGLE_NODE_WRITER' as const } }] }],
  ['both types', { volumeCapabilities: [filesystem(), block()] }],
  ['several writers', { volumeCapabilities: [filesystem('MULTI_NODE_MULTI_WRITER')] }],
  ['a parameter that is not known', { parameters: { pol: 'main' } }],
])('%s: invalid argument', async (_, changes) => {
  expect((await refusal(create('pvc-3', changes))).code).toBe(statusCode.INVALID_ARGUMENT);
  expect(await rig.volume('pvc-3')).toBeUndefined();
});

test('what cannot be had is told as such', async () => {
  const range = await refusal(create('pvc-4', { capacityRange: bytes(4097, 5000) }));
  expect(range.code).toBe(statusCode.OUT_OF_RANGE);
  const place = await refusal(create('pvc-5', { parameters: { mirror: 'false', pool: 'nowhere' } }));
  expect(place).toMatchObject({ code: statusCode.RESOURCE_EXHAUSTED, details: expect.stringContaining('nowhere') });
  const source = { snapshot: { snapshotId: 'pv-x@snap-y' } };
  expect((await refusal(create('pvc-6', { volumeContentSource: source }))).code).toBe(statusCode.NOT_FOUND);
});

test('snapshots: once for a name, found by id and by volume, gone when they are deleted', async () => {
  const { volumeId } = await create('pvc-7');
  const { snapshot } = await client.controller.createSnapshot({ sourceVolumeId: volumeId, name: 'snapshot-1' });
  expect(snapshot).toMatchObject({ sourceVolumeId: volumeId, readyToUse: true });
  expect(snapshot.snapshotId.startsWith(`${volumeId}@snap-`)).toBe(true);
  expect(snapshot.creationTime.seconds).toBeGreaterThan(0);
  const again = await client.controller.createSnapshot({ sourceVolumeId: volumeId, name: 'snapshot-1' });
  expect(again.snapshot).toEqual(snapshot);
  const { volumeId: otherId } = await create('pvc-8');
  const other = refusal(client.controller.createSnapshot({ sourceVolumeId: otherId, name: 'snapshot-1' }));
  expect((await other).code).toBe(statusCode.ALREADY_EXISTS);
  await client.controller.createSnapshot({ sourceVolumeId: otherId, name: 'snapshot-2' });

  const list = (request: object) => client.controller.listSnapshots(request);
  expect((await list({})).entries).toHaveLength(2);
  expect((await list({ snapshotId: snapshot.snapshotId })).entries).toEqual([{ snapshot }]);
  expect((await list({ sourceVolumeId: otherId })).entries).toHaveLength(1);
  expect((await list({ snapshotId: 'nobody' })).entries).toEqual([]);
  const content = { snapshot: { snapshotId: snapshot.snapshotId } };
  expect((await refusal(create('pvc-9', { volumeContentSource: content }))).code).toBe(statusCode.UNIMPLEMENTED);

  for (let attempt = 0; attempt < 2; attempt += 1) {
    expect(await client.controller.deleteSnapshot({ snapshotId: snapshot.snapshotId })).toEqual({});
  }
  expect((await list({})).entries).toHaveLength(1);
});

test('a snapshot of a mirrored volume is taken on the mirror, with what the class says', async () => {
  const { volumeId } = await create('pvc-10', { parameters: { bufferPool: 'buffer' } });
  await rig.waitForCondition(standbyMirrors, 'pvc-10', 'InSync', 'True');
  const parameters = { freezeTimeout: '3s', lullQuietFor: '100ms' };
  await client.controller.createSnapshot({ sourceVolumeId: volumeId, name: 'snapshot-3', parameters });
  expect((await rig.snapshot('snapshot-3'))?.spec).toMatchObject({
    source: { mirror: 'pvc-10' },
    consistency: { freeze: { timeout: '3s' }, lull: { quietFor: '100ms' } },
    claim: false,
  });
  const wrong = refusal(
    client.controller.createSnapshot({ sourceVolumeId: volumeId, name: 'snapshot-4', parameters: { freeze: 'yes' } }),
  );
  expect((await wrong).code).toBe(statusCode.INVALID_ARGUMENT);
});

test('a volume without any buffer has no snapshots', async () => {
  const { volumeId } = await create('pvc-11', { parameters: { mirror: 'false' } });
  const { code } = await refusal(client.controller.createSnapshot({ sourceVolumeId: volumeId, name: 'snapshot-5' }));
  expect(code).toBe(statusCode.FAILED_PRECONDITION);
  expect((await rig.api.list(snapshots)).items).toEqual([]);
});

test('a volume grows, and never shrinks', async () => {
  const { volumeId } = await create('pvc-12');
  const expand = (requiredBytes: number, limitBytes = 0) =>
    client.controller.controllerExpandVolume({ volumeId, capacityRange: { requiredBytes, limitBytes } });
  expect(await expand(2 * gibibyte)).toEqual({ capacityBytes: 2 * gibibyte, nodeExpansionRequired: true });
  expect((await expand(gibibyte)).capacityBytes).toBe(2 * gibibyte);
  expect((await refusal(client.controller.controllerExpandVolume({ volumeId }))).code).toBe(
    statusCode.INVALID_ARGUMENT,
  );
  const unknown = refusal(
    client.controller.controllerExpandVolume({ volumeId: 'pv-x', capacityRange: bytes(gibibyte) }),
  );
  expect((await unknown).code).toBe(statusCode.NOT_FOUND);
});

test('a volume in use does not grow, and the error says so', async () => {
  const { volumeId } = await create('pvc-14');
  const node = (await rig.volume('pvc-14'))?.status?.node ?? '';
  rig.cluster.agent(node).fail('putVolume', 'InUse', 'volume is used by a pod', 1000);
  const expand = client.controller.controllerExpandVolume({ volumeId, capacityRange: bytes(2 * gibibyte) });
  const { code, details } = await refusal(expand);
  expect(code).toBe(statusCode.FAILED_PRECONDITION);
  expect(details).toMatch(/used by a pod/);
}, 30_000);

test('volumes are listed in pages', async () => {
  for (const name of ['pvc-a', 'pvc-b', 'pvc-c']) await create(name);
  const first = await client.controller.listVolumes({ maxEntries: 2 });
  const second = await client.controller.listVolumes({ maxEntries: 2, startingToken: first.nextToken });
  expect([first.entries.length, second.entries.length, second.nextToken]).toEqual([2, 1, '']);
  const ids = [...first.entries, ...second.entries].map(({ volume }) => volume.volumeId);
  expect(new Set(ids).size).toBe(3);
  const wrong = refusal(client.controller.listVolumes({ startingToken: 'invalid-token' }));
  expect((await wrong).code).toBe(statusCode.ABORTED);
  const [id = ''] = ids;
  const { status } = await client.controller.controllerGetVolume({ volumeId: id });
  expect(status.volumeCondition).toMatchObject({ abnormal: false });
});

test('capabilities are confirmed where they are possible', async () => {
  const { volumeId } = await create('pvc-13');
  const validate = (volumeCapabilities: ReturnType<typeof filesystem>[], id = volumeId) =>
    client.controller.validateVolumeCapabilities({ volumeId: id, volumeCapabilities });
  expect((await validate([filesystem()])).confirmed?.volumeCapabilities).toHaveLength(1);
  expect(await validate([block()])).toMatchObject({ confirmed: null, message: expect.stringContaining('Filesystem') });
  expect((await validate([filesystem('MULTI_NODE_MULTI_WRITER')])).confirmed).toBeNull();
  expect((await refusal(validate([]))).code).toBe(statusCode.INVALID_ARGUMENT);
  expect((await refusal(validate([filesystem()], ''))).code).toBe(statusCode.INVALID_ARGUMENT);
  expect((await refusal(validate([filesystem()], 'pv-x'))).code).toBe(statusCode.NOT_FOUND);
});

test('what people have made by hand is not deleted over CSI', async () => {
  await rig.applyQuickstart('primary-volume');
  await rig.waitForCondition(primaryVolumes, 'data', 'Ready', 'True');
  const { code, details } = await refusal(client.controller.deleteVolume({ volumeId: await rig.agentVolume() }));
  expect(code).toBe(statusCode.FAILED_PRECONDITION);
  expect(details).toMatch(/shop\/data was not made over CSI/);
  const taken = await refusal(create('data'));
  expect(taken.code).toBe(statusCode.ALREADY_EXISTS);
});

test('the room that is left in the pools of a class', async () => {
  const { availableCapacity } = await client.controller.getCapacity({ parameters: single });
  expect(availableCapacity).toBeGreaterThan(0);
  const accessibleTopology = { segments: { 'topology.understudy.dev/node': 'node-a' } };
  const one = await client.controller.getCapacity({ parameters: single, accessibleTopology });
  expect(one.availableCapacity).toBeLessThan(availableCapacity);
  expect(await client.controller.getCapacity({ parameters: { pool: 'nowhere' } })).toMatchObject({
    availableCapacity: 0,
  });
});
