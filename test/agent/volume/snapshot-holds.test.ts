/** The copy that keeps a snapshot for a volume elsewhere, over a real connection with TLS. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { volumeSpecSchema } from '../../../agent/api/contract/volumes.ts';
import type { LinkTls } from '../../../agent/volume/engine-calls.ts';
import { FillSource } from '../../../agent/volume/fill-source.ts';
import { adoptMirror, connectMirror } from '../../../agent/volume/mirror-connector.ts';
import { MirrorListener } from '../../../agent/volume/mirror-listener.ts';
import { goAhead } from '../../../agent/volume/mirror-preamble.ts';
import { RestoreClient } from '../../../agent/volume/restore-client.ts';
import { RestoreServer } from '../../../agent/volume/restore-server.ts';
import { CowRestoreSource } from '../../../agent/volume/restore-source.ts';
import { SnapshotHolds } from '../../../agent/volume/snapshot-holds.ts';
import { newRecord, RecordStore } from '../../../agent/volume/volume-record.ts';
import { systemClock } from '../../../common/clock.ts';
import { silentLog } from '../../../common/log.ts';
import { TestAuthority } from '../../support/certificates.ts';
import { CowRig } from '../../support/cow-rig.ts';

const kib = 1024;
const takenAt = '2026-01-02T03:04:05.678Z';

let authority: TestAuthority;
let listener: MirrorListener;
let rig: CowRig;
let store: RecordStore;
let holds: SnapshotHolds;
const sources: FillSource[] = [];

beforeEach(async () => {
  authority = await TestAuthority.create();
  rig = await CowRig.open({ seed: 1 });
  await rig.device.write(0, Buffer.alloc(4 * kib, 1));
  for (const name of ['kept', 'other']) await rig.device.takeSnapshot(name, { takenAt });
  await rig.device.write(0, Buffer.alloc(4 * kib, 2));
  const spec = volumeSpecSchema.parse({ size: 64 * kib, pool: 'main', role: 'primary', epoch: 1, uid: 'uid-v' });
  store = new RecordStore(rig.volumeDisk.mount(), newRecord('v', spec));
  holds = new SnapshotHolds(store, rig.device, silentLog);
  const security = await tlsOf('node-b');
  listener = await MirrorListener.listen(
    '127.0.0.1:0',
    async (_volume, descriptor) => void serve(descriptor, security).catch(() => undefined),
    silentLog,
  );
});

afterEach(async () => {
  for (const source of sources.splice(0)) await source.stop();
  await listener.close();
  await authority.remove();
});

async function tlsOf(name: string): Promise<LinkTls> {
  return { ca: authority.ca, ...(await authority.issue({ role: 'node', name })) };
}

async function serve(descriptor: number, security: LinkTls): Promise<void> {
  const connection = await adoptMirror(descriptor, goAhead, security, holds.nodes);
  const source = new CowRestoreSource(rig.device, 'v', systemClock);
  new RestoreServer(connection, { store, source, device: rig.device, isStandby: () => true, holds, log: silentLog });
}

async function connect(node: string, expected = 'node-b') {
  return connectMirror(`127.0.0.1:${listener.port}`, 'v', await tlsOf(node), [expected], 'fill');
}

function sourceFor(node: string, more: { uid?: string; snapshot?: string; expected?: string } = {}): FillSource {
  const { uid = 'uid-v', snapshot = 'kept', expected } = more;
  const origin = { volume: 'v', uid, snapshot, address: '', sizeBytes: 128 * kib, state: 'Filling' } as const;
  const source = new FillSource({
    volume: 'copy',
    origin: () => origin,
    connect: () => connect(node, expected),
    clock: systemClock,
    patienceMs: 0,
  });
  sources.push(source);
  return source;
}

test('the node that a hold names reads the snapshot, as it was, with zeroes behind its end', async () => {
  await holds.hold('kept', 'copy', { node: 'node-c' });
  const source = sourceFor('node-c');
  expect(await source.read({ offset: 0, length: 4 * kib })).toEqual(Buffer.alloc(4 * kib, 1));
  expect(await source.read({ offset: 60 * kib, length: 68 * kib })).toEqual(new Uint8Array(68 * kib));
  expect((await source.data({ offset: 0, length: 128 * kib }))[0]?.offset).toBe(0);
  expect(await source.data({ offset: 64 * kib, length: 64 * kib })).toEqual([]);
});

test.each([
  ['another node', 'node-d', {}, false],
  ['what is expected to be another agent', 'node-c', { expected: 'node-x' }, false],
  ['another snapshot', 'node-c', { snapshot: 'other' }, true],
  ['another volume', 'node-c', { uid: 'uid-w' }, true],
] as const)('refused: %s', async (_what, node, more, lost) => {
  await holds.hold('kept', 'copy', { node: 'node-c' });
  await expect(sourceFor(node, more).read({ offset: 0, length: 512 })).rejects.toMatchObject({
    code: 'Unavailable',
    labels: { lost },
  });
});

test('a connection for one snapshot shows no other, and does nothing that a restore in place may', async () => {
  await holds.hold('kept', 'copy', { node: 'node-c' });
  const { client } = await RestoreClient.openForFilling(await connect('node-c'), {
    uid: 'uid-v',
    snapshot: 'kept',
    hold: 'copy',
  });
  await expect(client.read('other', { offset: 0, length: 512 })).rejects.toThrow(/not what this connection is for/);
  const marker = { name: 'r', snapshot: 'kept', state: 'Running', allowInUse: false, startedAt: takenAt } as const;
  await expect(client.mark(marker)).rejects.toThrow(/not for this kind of connection/);
  await expect(client.look('kept', undefined)).rejects.toThrow(/not for this kind of connection/);
  expect(store.record.restore).toBeUndefined();
  await client.close();
});

test('a snapshot that is held is not deleted, also after a restart; released, it is', async () => {
  await holds.hold('kept', 'copy', { node: 'node-c' });
  await holds.hold('kept', 'copy', { node: 'node-d' });
  expect(holds.nodes).toEqual(['node-d']);
  await expect(holds.hold('other', 'copy', {})).rejects.toThrow(/is on snapshot kept/);
  await expect(rig.device.deleteSnapshot('kept')).rejects.toThrow(/being read by 1/);
  await rig.device.close();
  await rig.start();
  const again = new SnapshotHolds(store, rig.device, silentLog);
  await expect(rig.device.deleteSnapshot('kept')).rejects.toThrow(/being read by 1/);
  await again.release('other', 'copy');
  await expect(rig.device.deleteSnapshot('kept')).rejects.toThrow(/being read by 1/);
  await again.release('kept', 'copy');
  expect(again.nodes).toEqual([]);
  await rig.device.deleteSnapshot('kept');
});
