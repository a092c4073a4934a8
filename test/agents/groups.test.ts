import { afterAll, beforeAll, expect, test } from 'vitest';
import type { GroupHoldView } from '../../agent/api/contract/groups.ts';
import type { VolumeView } from '../../agent/api/contract/volumes.ts';
import type { AgentProcess } from '../kubernetes/support/agent-process.ts';
import { NbdTestClient } from '../support/nbd-client.ts';
import { OrderedWriter, readNumber } from '../support/ordered-writer.ts';
import { waitFor } from '../support/wait-for.ts';
import { call, expectOk, put, TwoAgents } from './cluster.ts';

const sizeBytes = 4 * 1024 * 1024;

/** A volume with its primary on one node and its standby, with the buffer, on the other. */
interface Member {
  readonly volume: string;
  readonly primary: AgentProcess;
  readonly standby: AgentProcess;
}

let agents: TwoAgents;
let data: Member;
let log: Member;

beforeAll(async () => {
  agents = await TwoAgents.start();
  data = { volume: 'pv-data', primary: agents.a, standby: agents.b };
  log = { volume: 'pv-log', primary: agents.b, standby: agents.a };
  for (const member of [data, log]) await mirror(member);
});
afterAll(() => agents.remove());

async function mirror({ volume, primary, standby }: Member): Promise<void> {
  const common = { size: sizeBytes, pool: 'main', epoch: 1, uid: `uid-${volume}` };
  const buffer = { pool: 'buffer', capacity: '32Mi', maxSnapshots: 64 };
  expectOk(await put(standby, `/v1/volumes/${volume}`, { ...common, role: 'standby', buffer }));
  const mirrors = [{ name: 'm', address: standby.mirrorAddress, mode: 'synchronous' }];
  expectOk(await put(primary, `/v1/volumes/${volume}`, { ...common, role: 'primary', mirrors }));
  await waitFor(async () => (await view({ volume, primary })).mirrors[0]?.state === 'InSync', { timeoutMs: 60_000 });
}

async function view({ volume, primary }: Pick<Member, 'volume' | 'primary'>): Promise<VolumeView> {
  return (await call<VolumeView>(primary, 'GET', `/v1/volumes/${volume}`)).body;
}

async function open({ volume, primary }: Member): Promise<NbdTestClient> {
  return await NbdTestClient.connect((await view({ volume, primary })).nbd, { exportName: volume });
}

const startWriter = async () => new OrderedWriter([await open(data), await open(log)]);

const hold = ({ volume, primary }: Member, attempt: string, deadlineMs = 5_000) =>
  put<GroupHoldView>(primary, `/v1/volumes/${volume}/groups/${attempt}`, { deadlineMs });
const release = ({ volume, primary }: Member, attempt: string) =>
  call<GroupHoldView>(primary, 'DELETE', `/v1/volumes/${volume}/groups/${attempt}`);
const barrier = ({ volume, primary }: Member, snapshot: string, more: object) =>
  put(primary, `/v1/volumes/${volume}/snapshots/${snapshot}`, { mirror: 'm', ...more });

/** The number in the snapshot, once that is Ready. */
async function numberIn({ volume, standby }: Member, snapshot: string): Promise<number> {
  const taken = async () => (await call(standby, 'GET', `/v1/volumes/${volume}/snapshots/${snapshot}`)).status === 200;
  await waitFor(taken, { timeoutMs: 20_000 });
  const { nbd } = (await call<VolumeView>(standby, 'GET', `/v1/volumes/${volume}`)).body;
  const exportName = `${volume}@${snapshot}`;
  const reader = await waitFor(() => NbdTestClient.connect(nbd, { exportName }).catch(() => undefined), {
    timeoutMs: 20_000,
  });
  try {
    return await readNumber(reader);
  } finally {
    reader.close();
  }
}

/** By how much the log is ahead of the data: 0 or -1 is what a power cut could have left. */
async function lead(snapshot: string): Promise<number> {
  return (await numberIn(log, snapshot)) - (await numberIn(data, snapshot));
}

test('without holding, a writer that goes on between two barriers is seen in an order that never was', async () => {
  const writer = await startWriter();
  await writer.advances(10);
  expectOk(await barrier(data, 'torn', {}));
  expect(await writer.advances(10)).toBe(true);
  expectOk(await barrier(log, 'torn', {}));
  await writer.stop();
  expect(await lead('torn')).toBeGreaterThan(0);
});

test('snapshots of a group hold a prefix of what was written to two volumes on two nodes', async () => {
  const writer = await startWriter();
  const leads: number[] = [];
  for (let index = 0; index < 20; index += 1) {
    const attempt = `group-${index}`;
    const members = index % 2 === 0 ? [data, log] : [log, data];
    await writer.advances(1 + (index % 7));
    for (const member of members) expectOk(await hold(member, attempt));
    const [first, second] = members as [Member, Member];
    expectOk(await barrier(first, attempt, { group: attempt }));
    // It gets on by one write at most: that of before the hold.
    if (index < 2) expect(await writer.advances(2, 200)).toBe(false);
    expectOk(await barrier(second, attempt, { group: attempt }));
    for (const member of members) expect((await release(member, attempt)).body).toMatchObject({ state: 'Released' });
    leads.push(await lead(attempt));
  }
  expect(await writer.advances(10)).toBe(true);
  await writer.stop();
  expect(leads.filter((each) => each !== 0 && each !== -1)).toEqual([]);
});

test('a barrier of a group is refused where nothing is held for it', async () => {
  const refused = await barrier(data, 'unheld', { group: 'nobody' });
  expect(refused.status).toBe(409);
  expect(refused.body.detail).toMatch(/acknowledgements are not held for attempt nobody/);
  const standby = await hold({ ...data, primary: data.standby }, 'wrong-place');
  expect(standby.status).toBe(409);
});

test('an agent that is killed in the middle of a hold knows nothing of it afterwards, and writes go on', async () => {
  for (const member of [data, log]) expectOk(await hold(member, 'killed', 1_000));
  await data.primary.kill();
  await data.primary.start();
  await waitFor(async () => (await view(data)).mirrors[0]?.state === 'InSync', { timeoutMs: 60_000 });
  expect((await release(data, 'killed')).status).toBe(404);
  expect((await barrier(data, 'killed', { group: 'killed' })).status).toBe(409);
  // The other one lets go by itself.
  const writer = await startWriter();
  expect(await writer.advances(10)).toBe(true);
  await writer.stop();
  expect((await release(log, 'killed')).body).toMatchObject({ state: 'Void' });
});
