import { afterEach, beforeEach, expect, test } from 'vitest';
import { snapshots } from '../../../operator/resources/snapshot.ts';
import { type SnapshotGroup, snapshotGroups } from '../../../operator/resources/snapshot-group.ts';
import { standbyMirrors } from '../../../operator/resources/standby-mirror.ts';
import { OperatorRig } from '../../support/operator-rig.ts';
import { waitFor } from '../../support/wait-for.ts';

let rig: OperatorRig;
beforeEach(async () => {
  rig = new OperatorRig();
  rig.start();
  await rig.mirroredVolume();
  await rig.apply(`apiVersion: understudy.dev/v1alpha1
kind: PrimaryVolume
metadata: { name: log }
spec: { size: 1Gi, nodeName: node-b, pool: main }
---
apiVersion: understudy.dev/v1alpha1
kind: StandbyMirror
metadata: { name: log-standby, labels: { app: db } }
spec:
  primaryVolumeRef: { name: log }
  nodeName: node-a
  pool: main
  buffer: { pool: buffer, capacity: 1Gi }
`);
  await rig.waitForCondition(standbyMirrors, 'log-standby', 'InSync', 'True');
});
afterEach(() => rig.stop());

async function make(spec = 'sources: [{ mirror: data-standby }, { mirror: log-standby }]'): Promise<void> {
  await rig.apply(`apiVersion: understudy.dev/v1alpha1
kind: SnapshotGroup
metadata: { name: db }
spec: { ${spec} }
`);
}

const says = (status: 'True' | 'False', reason: string) =>
  rig.waitForCondition(snapshotGroups, 'db', 'Ready', status, reason);
const group = () => rig.api.get(snapshotGroups, rig.key('db')) as Promise<SnapshotGroup>;
const names = async () => (await rig.api.list(snapshots)).items.map(({ metadata }) => metadata.name).sort();
/** What was asked of both primaries, in order. */
const asked = () =>
  [rig.cluster.agent('node-a'), rig.cluster.agent('node-b')].map(({ changes }) =>
    changes.flatMap(({ call }) =>
      call === 'holdAcknowledgements' || call === 'putSnapshot' || call === 'releaseAcknowledgements' ? [call] : [],
    ),
  );
const atAgents = async () => {
  const data = await rig.agentVolume('data');
  const log = await rig.agentVolume('log');
  const holders = [
    ['node-b', data],
    ['node-a', log],
  ] as const;
  return holders.map(([node, volume]) => rig.cluster.agent(node).volume(volume).snapshots.size);
};

test('a group holds at all its volumes, takes its snapshots, and lets go; deleted, it takes them along', async () => {
  await make();
  await says('True', 'Taken');
  expect(await names()).toEqual(['db-data-standby', 'db-log-standby']);
  for (const calls of asked())
    expect(calls.slice(0, 3)).toEqual(['holdAcknowledgements', 'putSnapshot', 'releaseAcknowledgements']);
  const { status } = await group();
  expect(status).toMatchObject({ attempts: 1, heldMilliseconds: 3, count: 2 });
  expect(status?.takenAt).toBe('2026-01-02T03:04:05.678Z');
  await rig.waitForCondition(snapshots, 'db-log-standby', 'Ready', 'True', 'Taken');
  expect(await atAgents()).toEqual([1, 1]);

  await rig.api.delete(snapshotGroups, rig.key('db'));
  await rig.waitForGone(snapshotGroups, 'db');
  expect(await names()).toEqual([]);
  expect(await atAgents()).toEqual([0, 0]);
});

test('of a hold that ran out before the release nothing is kept, and it is tried again', async () => {
  const log = await rig.agentVolume('log');
  let barriers = 0;
  rig.cluster.onSnapshot = () => {
    barriers += 1;
    if (barriers === 2) rig.cluster.agent('node-b').letGo(log);
  };
  await make();
  const problem = await says('False', 'Retrying');
  expect(problem.message).toMatch(/let go too early: the deadline/);
  await says('True', 'Taken');
  expect((await group()).status).toMatchObject({ attempts: 2 });
  expect(barriers).toBe(4);
  expect(await atAgents()).toEqual([1, 1]);
});

test('an agent that has been restarted meanwhile does not know the attempt: the same', async () => {
  const data = await rig.agentVolume('data');
  let barriers = 0;
  rig.cluster.onSnapshot = () => {
    barriers += 1;
    if (barriers === 1) delete rig.cluster.agent('node-a').volume(data).group;
  };
  await make();
  expect((await says('False', 'Retrying')).message).toMatch(/no attempt/);
  await says('True', 'Taken');
  expect(await atAgents()).toEqual([1, 1]);
});

test('a volume that cannot hold keeps all barriers from being sent; those that hold are let go', async () => {
  rig.cluster.agent('node-b').fail('holdAcknowledgements', 'Timeout', 'writes wait');
  await make();
  expect((await says('False', 'Retrying')).message).toMatch(/node node-b: writes wait/);
  expect(asked()[0]).toEqual(['holdAcknowledgements', 'releaseAcknowledgements']);
  expect(await atAgents()).toEqual([0, 0]);
  await says('True', 'Taken');
});

test('an operator that is restarted in the middle begins another attempt', async () => {
  rig.cluster.agent('node-a').loseReplies('releaseAcknowledgements', 1_000);
  await make();
  await says('False', 'Retrying');
  rig.cluster.agent('node-a').keepReplies();
  await rig.restart();
  await says('True', 'Taken');
  expect(await names()).toEqual(['db-data-standby', 'db-log-standby']);
});

test('a selector chooses mirrors by their labels, once; without any it says so', async () => {
  await make('mirrorSelector: { matchLabels: { app: db } }');
  await says('True', 'Taken');
  expect(await names()).toEqual(['db-log-standby']);
  await rig.api.delete(snapshotGroups, rig.key('db'));
  await rig.waitForGone(snapshotGroups, 'db');
  await make('mirrorSelector: { matchLabels: { app: nothing } }');
  await says('False', 'NoMembers');
});

test('a member that is deleted makes the group incomplete, and it is not taken again', async () => {
  await make();
  await says('True', 'Taken');
  await rig.api.delete(snapshots, rig.key('db-log-standby'));
  expect((await says('False', 'MemberDeleted')).message).toMatch(/db-log-standby/);
  await waitFor(async () => (await names()).length === 1, { timeoutMs: 10_000 });
});
