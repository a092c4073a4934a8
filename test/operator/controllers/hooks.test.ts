import { afterEach, beforeEach, expect, test } from 'vitest';
import { pods } from '../../../operator/resources/core-kinds.ts';
import { type Snapshot, snapshots } from '../../../operator/resources/snapshot.ts';
import { OperatorRig } from '../../support/operator-rig.ts';
import { ScriptedContainers } from '../../support/scripted-containers.ts';
import { waitFor } from '../../support/wait-for.ts';

const timeoutMs = 20_000;

let rig: OperatorRig;
let containers: ScriptedContainers;
beforeEach(async () => {
  rig = new OperatorRig();
  containers = new ScriptedContainers();
  containers.scripts.set('checkpoint', () => 0);
  containers.scripts.set('unlock', () => 0);
  containers.scripts.set('lock', async (command) => {
    command.say('held');
    await command.told;
    return 0;
  });
  rig.api.containers = containers;
  rig.cluster.onSnapshot = () => containers.log.push('barrier');
  rig.start();
  await rig.mirroredVolume();
  await addPod('db-0', 'db');
});
afterEach(() => rig.stop());

async function addPod(name: string, app: string): Promise<void> {
  const metadata = { name, namespace: 'shop', labels: { app } };
  const pod = await rig.api.create(pods, { apiVersion: 'v1', kind: 'Pod', metadata });
  await rig.api.updateStatus(pods, { ...pod, status: { phase: 'Running' } });
}

const hook = (command: string, more = '') =>
  `{ podSelector: { matchLabels: { app: db } }, command: [${command}], timeout: 5s${more} }`;

async function take(hooks: string, more = ''): Promise<void> {
  await rig.apply(`apiVersion: understudy.dev/v1alpha1
kind: Snapshot
metadata: { name: s }
spec:
  source: { mirror: data-standby }
  consistency: { ${more}hooks: { ${hooks} } }
`);
}

const snapshot = () => rig.snapshot('s') as Promise<Snapshot>;
const says = (status: 'True' | 'False', reason: string) =>
  rig.waitForCondition(snapshots, 's', 'Ready', status, reason);

const checkpointed = `pre: [${hook('checkpoint')}], post: [${hook('unlock')}]`;
const locked = `pre: [${hook('lock', ', hold: { ready: held }')}], post: [${hook('unlock')}]`;

test('hooks are run before and after the barrier, and the time between stands in the status', async () => {
  await addPod('db-1', 'db');
  await addPod('shop-0', 'shop');
  await take(checkpointed);
  await says('True', 'Taken');
  expect(containers.log.filter((entry) => !entry.includes('ended'))).toEqual([
    'checkpoint in shop/db-0',
    'checkpoint in shop/db-1',
    'barrier',
    'unlock in shop/db-0',
    'unlock in shop/db-1',
  ]);
  const { status } = await snapshot();
  expect(status).toMatchObject({ consistency: 'application', hooks: { attempts: 1 } });
  expect(status?.hooks?.started).toEqual(['pre[0] in db-0', 'pre[0] in db-1']);
  expect(status?.hooks?.heldMilliseconds).toBeGreaterThan(0);
  expect((await rig.waitForCondition(snapshots, 's', 'HooksDone', 'True', 'Done')).message).toMatch(/held for \d+ ms/);
});

test('a command that holds goes on until the barrier is passed, and what is written later changes nothing', async () => {
  await take(locked);
  await says('True', 'Taken');
  expect(containers.log).toEqual([
    'lock in shop/db-0',
    'barrier',
    'lock in shop/db-0 ended 0',
    'unlock in shop/db-0',
    'unlock in shop/db-0 ended 0',
  ]);
  await rig.restart();
  await rig.apply('{apiVersion: understudy.dev/v1alpha1, kind: Snapshot, metadata: {name: s, labels: {seen: again}}}');
  await says('True', 'Taken');
  expect((await snapshot()).status?.consistency).toBe('application');
  expect(containers.log).toHaveLength(5);
});

test('they are in the status before the first of them is started', async () => {
  let before: Snapshot['status'];
  containers.scripts.set('checkpoint', async () => {
    before = (await snapshot()).status;
    return 0;
  });
  await take(checkpointed);
  await says('True', 'Taken');
  expect(before?.hooks).toMatchObject({ started: ['pre[0] in db-0'], attempts: 1 });
  expect(before?.hooks?.endedAt).toBeUndefined();
});

test('a pre hook that fails: no barrier, post hooks are run, and it is tried again', async () => {
  containers.scripts.set('checkpoint', () => 3);
  await take(checkpointed);
  expect((await says('False', 'HooksFailing')).message).toMatch(/pre\[0\] in db-0 ended with exit code 3: it says why/);
  expect(containers.log).not.toContain('barrier');
  expect(containers.log).toContain('unlock in shop/db-0 ended 0');
  expect((await snapshot()).status?.hooks?.endedAt).toBeDefined();
});

test('one that may fail: it is taken, and is not of consistency "application"', async () => {
  containers.scripts.set('checkpoint', () => 3);
  await take(`pre: [${hook('checkpoint', ', onError: Continue')}], post: [${hook('unlock')}]`, 'freeze: {}, ');
  await says('True', 'Taken');
  expect((await snapshot()).status?.consistency).toBe('filesystem');
  await rig.waitForCondition(snapshots, 's', 'HooksDone', 'False', 'HookFailed');
});

test('a pod that is not there is waited for, before anything is held', async () => {
  await rig.api.delete(pods, rig.key('db-0'));
  await take(checkpointed);
  expect((await says('False', 'HookPodsMissing')).message).toMatch(/no pod with app=db runs/);
  expect(containers.log).toEqual([]);
});

test('what the agent refuses ends the attempt, after the post hooks', async () => {
  rig.cluster.agent('node-a').fail('putSnapshot', 'NoSpace', 'the buffer is full');
  await take(locked);
  expect((await says('False', 'HooksFailing')).message).toMatch(/the buffer is full/);
  expect(containers.log).toEqual([
    'lock in shop/db-0',
    'lock in shop/db-0 ended 0',
    'unlock in shop/db-0',
    'unlock in shop/db-0 ended 0',
  ]);
});

test('an answer that is lost: the record names the attempt, which still holds', async () => {
  rig.cluster.agent('node-a').loseReplies('putSnapshot', 1);
  await take(locked);
  await says('True', 'Taken');
  expect((await snapshot()).status).toMatchObject({ consistency: 'application', hooks: { attempts: 1 } });
});

test('an operator that is gone in the middle: the next one runs the post hooks, and claims nothing', async () => {
  const barrier = Promise.withResolvers<void>();
  rig.cluster.onSnapshot = () => {
    containers.log.push('barrier');
    barrier.resolve();
  };
  rig.cluster.agent('node-a').loseReplies('putSnapshot', 100);
  await take(locked);
  await barrier.promise;
  await rig.restart();
  await waitFor(() => containers.log.includes('unlock in shop/db-0 ended 0'), { timeoutMs });
  rig.cluster.agent('node-a').keepReplies();
  await says('True', 'Taken');
  const { status } = await snapshot();
  // The barrier was passed while the lock was held, but nobody is left who knows.
  expect(status?.consistency).toBe('crash');
  expect(status?.hooks?.problems).toEqual(['the operator was restarted while applications were held']);
  expect(containers.log.filter((entry) => entry.startsWith('lock') && !entry.includes('ended'))).toHaveLength(1);
});

test('at the deadline what holds is told to end, although the barrier is still to come', async () => {
  rig.cluster.busy = true;
  await take(`${locked}, deadline: 300ms`, 'lull: {}, ');
  expect((await says('False', 'HooksFailing')).message).toMatch(/until the deadline/);
  expect(containers.log).toContain('unlock in shop/db-0 ended 0');
  rig.cluster.busy = false;
});

test('a hold that ends by itself before the barrier is not what was asked for', async () => {
  containers.scripts.set('lock', (command) => {
    command.say('held');
    return 0;
  });
  await take(locked);
  await says('True', 'Taken');
  expect((await snapshot()).status?.consistency).toBe('crash');
  const { message } = await rig.waitForCondition(snapshots, 's', 'HooksDone', 'False', 'HookFailed');
  expect(message).toMatch(/ended before it was told to/);
});

test('a Snapshot that is deleted while applications are held goes after its post hooks', async () => {
  rig.cluster.busy = true;
  await take(locked, 'lull: {}, ');
  await waitFor(() => containers.log.includes('lock in shop/db-0'), { timeoutMs });
  await rig.api.delete(snapshots, rig.key('s'));
  await waitFor(() => containers.log.includes('unlock in shop/db-0 ended 0'), { timeoutMs });
  rig.cluster.agent('node-a').releaseLull(await rig.agentVolume());
  await rig.waitForGone(snapshots, 's');
});
