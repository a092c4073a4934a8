import { beforeEach, describe, expect, test } from 'vitest';
import { acceptLossAnnotation, discardAnnotation, promoteAnnotation } from '../../../operator/resources/group.ts';
import { PlannedWorld } from '../../support/planned-world.ts';

let world: PlannedWorld;

async function mirrored(failover: object = { policy: 'Automatic', after: '30s' }, volume: object = {}): Promise<void> {
  world.createVolume({ buffer: { pool: 'buffer', capacity: '64Mi' }, ...volume });
  world.createMirror('standby', { nodeName: 'node-b', failover, buffer: { pool: 'buffer', capacity: '64Mi' } });
  await world.settle();
}

beforeEach(() => {
  world = new PlannedWorld();
  world.useArbiter();
});

const agent = (node: string) => world.cluster.agent(node);
const copy = (node: string) => agent(node).volume(world.agentVolume);
const record = () => world.volume?.status?.arbiter;

/** A look, some seconds later. */
async function later(seconds: number): Promise<void> {
  world.pass(seconds);
  await world.reconcile();
}

async function lose(node = 'node-a'): Promise<void> {
  agent(node).down = true;
  await world.reconcile();
}

/** Looks again until nothing changes any more. */
async function settleAgain(): Promise<void> {
  await world.settle();
}

describe('the record', () => {
  test('has the standby in sync, in the epoch of the primary', async () => {
    await mirrored();
    expect(record()).toMatchObject({ epoch: 1, node: 'node-a', copy: 'origin' });
    expect(record()?.copies).toEqual([{ name: 'standby', state: 'InSync', epoch: 1 }]);
    expect(world.condition('FailoverReady', 'standby')).toBe('True InSync');
    expect(copy('node-a').spec).toMatchObject({ arbiterKey: 'shop/data', onLoss: 'continue' });
  });

  test('is left out where the agents have no arbiter, and nothing fails over', async () => {
    world.cluster.arbiter = undefined;
    await mirrored();
    expect(copy('node-a').spec).toMatchObject({ onLoss: 'suspend' });
    expect(copy('node-a').spec.arbiterKey).toBeUndefined();
    await lose();
    await later(3600);
    expect(world.condition('Promotion')).toBe('False MayLoseWrites');
    expect(copy('node-b').spec.role).toBe('standby');
  });
});

describe('a primary that is lost', () => {
  test('is waited for as long as the mirror says, then replaced', async () => {
    await mirrored();
    await lose();
    expect(world.condition('PrimaryReachable')).toBe('False AgentUnreachable');
    expect(world.condition('Promotion')).toBe('False WaitingForDelay');
    await later(29);
    expect(copy('node-b').spec.role).toBe('standby');
    await later(2);
    await settleAgain();
    expect(copy('node-b').spec).toMatchObject({ role: 'primary', epoch: 2 });
    expect(world.volume?.status).toMatchObject({ node: 'node-b', epoch: 2 });
    expect(record()).toMatchObject({ epoch: 2, since: 2, node: 'node-b', copy: 'standby', copies: [], divergent: [] });
    expect(world.condition('Promotion')).toBeUndefined();
    expect(world.condition('Ready')).toBe('True Available');
  });

  test('that is back in time stays the primary', async () => {
    await mirrored();
    await lose();
    await later(20);
    agent('node-a').down = false;
    await later(5);
    expect(world.condition('PrimaryReachable')).toBeUndefined();
    await lose();
    await later(20);
    expect(copy('node-b').spec.role).toBe('standby');
  });

  test.each([
    ['its mirror is not automatic', { policy: 'Manual' }, () => {}],
    ['the primary went on without the standby', undefined, () => outdate()],
    ['the standby ended uncleanly', undefined, () => Object.assign(copy('node-b'), { clean: false })],
    ['a resync into the standby is unfinished', undefined, () => Object.assign(copy('node-b'), { consistent: false })],
    ['the standby is lost as well', undefined, () => Object.assign(agent('node-b'), { down: true })],
  ])('is not replaced when %s', async (_, failover, damage) => {
    await mirrored(failover);
    damage();
    await lose();
    await later(3600);
    await later(3600);
    expect(copy('node-b').prepared).toBeUndefined();
    expect(record()).toMatchObject({ epoch: 1, node: 'node-a' });
  });

  test('is not replaced while its standby hears it: only the operator cannot reach it', async () => {
    await mirrored();
    agent('node-a').fail('getVolume', 'Unavailable', 'no route to host', 1000);
    await world.reconcile();
    await later(3600);
    expect(world.condition('Promotion')).toBe('False LinkUp');
    expect(record()?.epoch).toBe(1);
  });

  test('whose disk failed is replaced though it answers', async () => {
    await mirrored();
    copy('node-a').state = 'Failed';
    await world.reconcile();
    await later(31);
    await settleAgain();
    expect(record()).toMatchObject({ epoch: 2, node: 'node-b' });
  });

  test('is not replaced by a standby that is found unclean once it has been prepared', async () => {
    await mirrored();
    await lose();
    world.pass(31);
    const prepare = agent('node-b').prepare.bind(agent('node-b'));
    agent('node-b').prepare = async (name, epoch) => ({ ...(await prepare(name, epoch)), clean: false });
    await world.reconcile();
    expect(copy('node-b').prepared).toBe(2);
    expect(record()).toMatchObject({ epoch: 1, node: 'node-a' });
    expect(world.condition('Promotion')).toBe('False MayLoseWrites');
  });
});

function outdate(): void {
  const { volume } = world;
  const arbiter = record();
  if (!volume || !arbiter) throw new Error('there is no record');
  const copies = [{ name: 'standby', state: 'Outdated' as const, epoch: 1 }];
  world.volume = { ...volume, status: { ...volume.status, arbiter: { ...arbiter, copies } } };
}

describe('an operator that ends in the middle is followed by one that goes on', () => {
  test('after each number of steps', async () => {
    for (let steps = 0; steps < 12; steps += 1) {
      world = new PlannedWorld();
      world.useArbiter();
      await mirrored();
      await lose();
      world.pass(31);
      world.outcomes = new Map();
      for (let step = 0; step < steps; step += 1) await world.step();
      await settleAgain();
      expect([steps, record()?.epoch, record()?.node]).toEqual([steps, 2, 'node-b']);
      expect([steps, copy('node-b').spec.role, copy('node-b').spec.epoch]).toEqual([steps, 'primary', 2]);
    }
  });

  test('also when the answers of the agent get lost', async () => {
    await mirrored();
    await lose();
    agent('node-b').loseReplies('prepare', 2);
    agent('node-b').loseReplies('putVolume', 1);
    world.pass(31);
    for (let look = 0; look < 6; look += 1) await world.reconcile();
    expect(record()).toMatchObject({ epoch: 2, node: 'node-b' });
    expect(copy('node-b').spec).toMatchObject({ role: 'primary', epoch: 2 });
  });

  test('a primary that is back between prepare and swap gets a newer epoch, and its standby again', async () => {
    await mirrored();
    await lose();
    world.pass(31);
    world.outcomes = new Map();
    await world.step();
    expect(copy('node-b').prepared).toBe(2);
    agent('node-a').down = false;
    await later(1);
    expect(world.condition('Promotion')).toBe('Unknown Prepared');
    await later(31);
    await settleAgain();
    expect(record()).toMatchObject({ epoch: 3, since: 1, node: 'node-a' });
    expect(record()?.copies).toEqual([{ name: 'standby', state: 'InSync', epoch: 3 }]);
    expect(copy('node-a').spec).toMatchObject({ role: 'primary', epoch: 3 });
    expect(copy('node-b').spec).toMatchObject({ role: 'standby', epoch: 3 });
  });
});

describe('an old primary that returns', () => {
  test('becomes a standby of the new one, is in sync, and can be promoted in turn', async () => {
    await mirrored();
    await lose();
    await later(31);
    await settleAgain();
    agent('node-a').down = false;
    await settleAgain();
    expect(copy('node-a').spec).toMatchObject({ role: 'standby', epoch: 2 });
    expect(copy('node-b').spec.mirrors).toMatchObject([{ name: 'origin', mode: 'synchronous' }]);
    expect(record()?.copies).toEqual([{ name: 'origin', state: 'InSync', epoch: 2 }]);
    expect(world.condition('Ready', 'standby')).toBe('True Reversed');
    expect(world.condition('FailoverReady', 'standby')).toBe('True InSync');
    expect(world.condition('Protected')).toBe('True InSync');

    await lose('node-b');
    await later(31);
    await settleAgain();
    expect(record()).toMatchObject({ epoch: 3, node: 'node-a', copy: 'origin' });
    agent('node-b').down = false;
    await settleAgain();
    expect(record()?.copies).toEqual([{ name: 'standby', state: 'InSync', epoch: 3 }]);
    expect(world.condition('Ready', 'standby')).toBe('True InSync');
  });

  test('is left alone while somebody uses its device', async () => {
    await mirrored();
    copy('node-a').attached = true;
    await lose();
    await later(31);
    await settleAgain();
    agent('node-a').down = false;
    await world.reconcile();
    expect(world.condition('Ready', 'standby')).toBe('False FormerInUse');
    expect(copy('node-a').spec.role).toBe('primary');
    copy('node-a').attached = false;
    await settleAgain();
    expect(copy('node-a').spec).toMatchObject({ role: 'standby', epoch: 2 });
  });

  test('with several mirrors: the others follow the new primary, at once', async () => {
    await mirrored();
    world.createMirror('third', { nodeName: 'node-c' });
    await settleAgain();
    await lose();
    await later(31);
    await settleAgain();
    expect(record()).toMatchObject({ epoch: 2, node: 'node-b' });
    expect(record()?.copies).toEqual([{ name: 'third', state: 'InSync', epoch: 2 }]);
    expect(copy('node-c').spec).toMatchObject({ role: 'standby', epoch: 2 });
  });
});

describe('an order', () => {
  test('moves the primary when nobody uses it, and is taken off', async () => {
    await mirrored({ policy: 'Manual' });
    copy('node-a').attached = true;
    world.annotate({ [promoteAnnotation]: 'node-b' });
    await world.reconcile();
    expect(world.condition('Promotion')).toBe('False WaitingForConsumers');
    copy('node-a').attached = false;
    await settleAgain();
    expect(record()).toMatchObject({ epoch: 2, node: 'node-b' });
    expect(record()?.copies).toEqual([{ name: 'origin', state: 'InSync', epoch: 2 }]);
    expect(copy('node-a').spec).toMatchObject({ role: 'standby', epoch: 2 });
    expect(world.volume?.metadata.annotations).toEqual({});
  });

  test('names a copy that is not there', async () => {
    await mirrored();
    world.annotate({ [promoteAnnotation]: 'node-x' });
    await world.reconcile();
    expect(world.condition('Promotion')).toBe('False NoSuchCopy');
  });

  test('waits for a standby that is behind a primary that lives', async () => {
    await mirrored();
    outdate();
    world.annotate({ [promoteAnnotation]: 'standby', [acceptLossAnnotation]: 'node-a/1' });
    await world.reconcile();
    expect(world.condition('Promotion')).toBe('False WaitingForSync');
    expect(record()?.epoch).toBe(1);
  });

  test('to accept a loss names whose, and since when; both copies are kept', async () => {
    await mirrored();
    outdate();
    copy('node-b').clean = false;
    await lose();
    world.annotate({ [promoteAnnotation]: 'node-b' });
    await world.reconcile();
    expect(world.condition('Promotion')).toBe('False MayLoseWrites');
    expect(world.message('Promotion')).toContain(`${acceptLossAnnotation}=node-a/1`);
    world.annotate({ [acceptLossAnnotation]: 'node-a/7' });
    await world.reconcile();
    expect(record()?.epoch).toBe(1);

    world.annotate({ [acceptLossAnnotation]: 'node-a/1' });
    await settleAgain();
    expect(record()).toMatchObject({ epoch: 2, node: 'node-b', lossAccepted: true, divergent: ['origin'] });
    expect(copy('node-b').spec).toMatchObject({ role: 'primary', acceptDataLoss: true });
    expect(world.volume?.metadata.annotations).toEqual({});
    agent('node-a').down = false;
    await settleAgain();
    expect(world.condition('SplitBrain')).toBe('True MayHaveDiverged');
    expect(copy('node-a').spec).toMatchObject({ role: 'primary', epoch: 1 });

    world.annotate({ [discardAnnotation]: 'origin' });
    await settleAgain();
    expect(world.condition('SplitBrain')).toBeUndefined();
    expect(copy('node-a').spec).toMatchObject({ role: 'standby', epoch: 2 });
    expect(record()?.copies).toEqual([{ name: 'origin', state: 'InSync', epoch: 2 }]);
  });

  describe('to accept a loss, where the copy was left behind in an older epoch', () => {
    /** node-c has what node-a acknowledged until it was left behind; node-b has followed node-a, and is lost as well. */
    beforeEach(async () => {
      await mirrored();
      world.createMirror('other', { nodeName: 'node-c' });
      await settleAgain();
      world.annotate({ [promoteAnnotation]: 'node-b' });
      await settleAgain();
      expect(record()).toMatchObject({ epoch: 2, node: 'node-b', superseded: [{ name: 'origin', epoch: 1 }] });
      const { volume } = world;
      const arbiter = record();
      if (volume && arbiter)
        world.volume = { ...volume, status: { ...volume.status, arbiter: { ...arbiter, copies: [] } } };
      copy('node-c').clean = false;
      copy('node-c').dataEpoch = 1;
      // It never got to being a standby of epoch 2.
      Object.assign(copy('node-a').spec, { role: 'primary', epoch: 1 });
      agent('node-a').down = true;
      await lose('node-b');
    });

    test('an order that names the newest epoch only is not enough', async () => {
      world.annotate({ [promoteAnnotation]: 'node-c', [acceptLossAnnotation]: 'node-b/2' });
      await settleAgain();
      expect(record()?.epoch).toBe(2);
      expect(world.condition('Promotion')).toBe('False MayLoseWrites');
      expect(world.message('Promotion')).toContain(`${acceptLossAnnotation}=node-b/1-2`);
    });

    test('nor is one that names too few, or another primary', async () => {
      for (const order of ['node-b/0-2', 'node-b/2-2', 'node-b/1-3', 'node-a/1-2']) {
        world.annotate({ [promoteAnnotation]: 'node-c', [acceptLossAnnotation]: order });
        await settleAgain();
        expect(record()?.epoch, order).toBe(2);
      }
    });

    test('one that names all of them is obeyed, and every primary of one of them may have something of its own', async () => {
      world.annotate({ [promoteAnnotation]: 'node-c', [acceptLossAnnotation]: 'node-b/1-2' });
      await settleAgain();
      expect(record()).toMatchObject({ node: 'node-c', lossAccepted: true, superseded: [], divergent: ['standby'] });
      agent('node-a').down = false;
      await settleAgain();
      expect(world.message('SplitBrain')).toContain('origin');
      expect(copy('node-a').spec).toMatchObject({ role: 'primary', epoch: 1 });
    });

    test('a copy that has never been in sync is not promoted by any order', async () => {
      copy('node-c').dataEpoch = 0;
      for (const order of ['node-b/2', 'node-b/1-2', 'node-b/0-2']) {
        world.annotate({ [promoteAnnotation]: 'node-c', [acceptLossAnnotation]: order });
        await settleAgain();
        expect(record()?.epoch, order).toBe(2);
        expect(world.condition('Promotion')).toBe('False Empty');
      }
    });
  });

  test('never makes a primary of the image of no moment', async () => {
    await mirrored();
    copy('node-b').consistent = false;
    await lose();
    world.annotate({ [promoteAnnotation]: 'node-b', [acceptLossAnnotation]: 'node-a/1' });
    await later(60);
    expect(copy('node-b').prepared).toBeUndefined();
    expect(record()?.epoch).toBe(1);
  });
});

describe('a backup that reads the standby', () => {
  const reading = {
    name: 's',
    state: 'Ready' as const,
    valid: true,
    bufferBytes: 0,
    exclusiveBytes: 0,
    readers: 1,
  };

  test.each([
    ['Finish', 'False WaitingForBackup', 1],
    ['Continue', undefined, 2],
  ])('with duringBackup %s', async (duringBackup, condition, epoch) => {
    await mirrored({ policy: 'Automatic', after: '30s', duringBackup });
    copy('node-b').snapshots.set('s', reading);
    await lose();
    await later(31);
    await settleAgain();
    expect(world.condition('Promotion')).toBe(condition);
    expect(record()?.epoch).toBe(epoch);
    expect(copy('node-b').snapshots.get('s')?.readers).toBe(1);
  });

  test('with duringBackup Finish is waited for as long as the mirror says, and then goes on', async () => {
    await mirrored({ policy: 'Automatic', after: '30s', duringBackup: 'Finish', finishWithin: '5m' });
    copy('node-b').snapshots.set('s', { ...reading, readers: 0, usedBy: ['backups/nightly'] });
    await lose();
    await later(31);
    expect(world.message('Promotion')).toMatch(/waits for them until 2026-01-01T00:05:30Z/);
    await later(298);
    await settleAgain();
    expect(record()?.epoch).toBe(1);
    await later(2);
    await settleAgain();
    expect(copy('node-b').spec).toMatchObject({ role: 'primary', epoch: 2, readers: 'keep' });
  });

  test('with duringBackup Finish lets the promotion be made as soon as it has ended', async () => {
    await mirrored({ policy: 'Automatic', after: '30s', duringBackup: 'Finish' });
    copy('node-b').snapshots.set('s', reading);
    await lose();
    await later(60);
    copy('node-b').snapshots.set('s', { ...reading, readers: 0 });
    await settleAgain();
    expect(record()?.epoch).toBe(2);
  });

  test('with duringBackup Finish is waited for without end while the primary works', async () => {
    await mirrored({ policy: 'Manual', duringBackup: 'Finish', finishWithin: '1s' });
    copy('node-b').snapshots.set('s', reading);
    world.annotate({ [promoteAnnotation]: 'node-b' });
    await later(0);
    await later(3600);
    expect(world.condition('Promotion')).toBe('False WaitingForBackup');
  });

  test('with duringBackup Abort is ended with the promotion, in both directions, and nothing else is', async () => {
    await mirrored({ policy: 'Automatic', after: '30s', duringBackup: 'Abort' });
    copy('node-b').snapshots.set('s', reading);
    copy('node-a').snapshots.set('s', reading);
    await lose();
    await later(31);
    await settleAgain();
    expect(record()).toMatchObject({ epoch: 2, readersEnd: true });
    expect(copy('node-b').snapshots.get('s')?.readers).toBe(0);
    agent('node-a').down = false;
    await settleAgain();
    expect(copy('node-a').spec).toMatchObject({ role: 'standby', epoch: 2, readers: 'keep' });
    copy('node-b').snapshots.set('s', reading);
    world.annotate({ [promoteAnnotation]: 'node-a' });
    await settleAgain();
    expect(record()).toMatchObject({ epoch: 3, node: 'node-a', readersEnd: true });
    expect(copy('node-a').snapshots.get('s')?.readers).toBe(0);
    expect(copy('node-b').snapshots.get('s')?.readers).toBe(1);
  });
});

test('a node that is drained hands its primaries over when nobody uses them', async () => {
  await mirrored();
  const metadata = { name: 'node-a', uid: 'n', resourceVersion: '1' };
  world.nodes.push({ apiVersion: 'v1', kind: 'Node', metadata, spec: { unschedulable: true } });
  copy('node-a').attached = true;
  await world.reconcile();
  expect(world.condition('Promotion')).toBe('False WaitingForConsumers');
  copy('node-a').attached = false;
  await settleAgain();
  expect(record()).toMatchObject({ epoch: 2, node: 'node-b' });
});

test('a copy that was promoted by hand, and of which the record never knew, does not return by itself', async () => {
  await mirrored();
  world.createMirror('third', { nodeName: 'node-c' });
  await settleAgain();
  for (const [node, epoch] of [
    ['node-b', 2],
    ['node-c', 3],
  ] as const) {
    await agent(node).prepare(world.agentVolume, epoch);
    await agent(node).putVolume(world.agentVolume, { ...copy(node).spec, role: 'primary', epoch });
  }
  await settleAgain();
  expect(record()).toMatchObject({ epoch: 3, node: 'node-c' });
  expect(copy('node-b').spec).toMatchObject({ role: 'primary', epoch: 2 });
  expect(world.message('SplitBrain')).toMatch(/standby may have acknowledged/);
});

test('a record restored from before the epoch follows the primary, and trusts no copy', async () => {
  await mirrored();
  const old = world.volume;
  await lose();
  await later(31);
  await settleAgain();
  agent('node-a').down = false;
  await settleAgain();
  world.volume = old;
  await world.reconcile();
  expect(record()).toMatchObject({ epoch: 2, node: 'node-b', copies: [] });
  expect(copy('node-b').spec.role).toBe('primary');
});
