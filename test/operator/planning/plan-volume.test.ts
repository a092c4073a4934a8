import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import { PlannedWorld } from '../../support/planned-world.ts';

let world: PlannedWorld;
beforeEach(() => {
  world = new PlannedWorld();
});

const buffer = { pool: 'buffer', capacity: '64Mi' };

/** What is planned now, in short. */
async function planned(): Promise<string[]> {
  const { actions } = await world.plan();
  return actions.map((action) => {
    if (action.type !== 'put-volume') return `${action.type} ${action.node}`;
    const { role, epoch, mirrors = [] } = action.spec;
    return `put ${role} ${action.node} epoch ${epoch}${mirrors.length > 0 ? ` → ${mirrors.map(({ name }) => name)}` : ''}`;
  });
}

describe('one step after the other', () => {
  test('a volume: finalizer and place are written down before anything is created', async () => {
    world.createVolume();
    expect(await planned()).toEqual([]);
    expect((await world.plan()).volume).toMatchObject({ finalizer: 'hold', status: { node: 'node-a', epoch: 1 } });
    await world.step();
    expect(world.volume?.metadata.finalizers).toHaveLength(1);
    expect(await planned()).toEqual(['put primary node-a epoch 1']);
  });

  test('a mirror: standby first, then the link', async () => {
    world.createVolume();
    await world.settle();
    world.createMirror('m', { nodeName: 'node-b', buffer });
    expect(await planned()).toEqual([]);
    await world.step();
    expect(await planned()).toEqual(['put standby node-b epoch 1']);
    await world.step();
    expect(await planned()).toEqual(['put primary node-a epoch 1 → m']);
    await world.settle();
    expect(world.condition('InSync', 'm')).toBe('True InSync');
    expect(world.condition('Protected')).toBe('True InSync');
  });

  test('two mirrors on two nodes', async () => {
    world.createVolume();
    world.createMirror('one', { nodeName: 'node-b' });
    world.createMirror('two', { nodeSelector: { 'kubernetes.io/hostname': 'node-c' } });
    await world.settle();
    const { mirrors } = world.cluster.agent('node-a').volume(world.agentVolume).spec;
    expect(mirrors.map(({ name }) => name)).toEqual(['one', 'two']);
    expect(world.volume?.status?.copies).toHaveLength(3);
    for (const node of ['node-a', 'node-b', 'node-c']) {
      const { peers } = world.cluster.agent(node).volume(world.agentVolume).spec;
      expect(peers).toEqual(['node-a', 'node-b', 'node-c']);
    }
  });
});

test('growth comes last: a volume that cannot grow in use is told everything else all the same', async () => {
  world.createVolume();
  world.createMirror('m', { nodeName: 'node-b', buffer, onLoss: 'Suspend' });
  await world.settle();
  world.changeVolume({ size: '2Gi' });
  const sizeOf = (node: string) => world.cluster.agent(node).volume(world.agentVolume).spec.size;
  while (sizeOf('node-b') !== 2 ** 31) await world.step();
  expect(sizeOf('node-a')).toBe(2 ** 30);
  world.changeMirror('m', { onLoss: 'Continue' });
  const told = new Set<string>();
  for (let round = 0; round < 10 && told.size < 2; round += 1) {
    const puts = (await world.plan()).actions.filter((action) => action.type === 'put-volume');
    for (const { node, spec } of puts) if (node === 'node-a') told.add(`${spec.size} ${spec.onLoss}`);
    await world.step();
  }
  expect([...told]).toEqual([`${2 ** 30} continue`, `${2 ** 31} continue`]);
});

describe('places', () => {
  test.each([
    ['on the node of the primary', { nodeName: 'node-a' }, 'False NodeHasCopy', 'node node-a has the primary'],
    ['on an unknown node', { nodeName: 'node-x' }, 'False NoAgent', 'no agent is configured for node node-x'],
    ['in an unknown pool', { nodeName: 'node-b', pool: 'fast' }, 'False PoolNotFound', 'the node has buffer, main'],
    ['in a pool for buffers', { nodeName: 'node-b', pool: 'buffer' }, 'False WrongPurpose', 'for buffers only'],
    [
      'with a buffer in an unknown pool',
      { nodeName: 'node-b', buffer: { pool: 'x', capacity: 1 } },
      'False PoolNotFound',
      'pool x',
    ],
    [
      'on no node at all',
      { nodeSelector: { disk: 'ssd' } },
      'False NoFittingNode',
      'no node with a NodePool has these labels',
    ],
    [
      'on the primary by selector',
      { nodeSelector: { 'kubernetes.io/hostname': 'node-a' } },
      'False NoFittingNode',
      'node-a: ',
    ],
  ])('a standby is not put %s', async (_, spec, reason, message) => {
    world.createVolume();
    world.createMirror('m', spec);
    await world.settle();
    expect(world.condition('Ready', 'm')).toBe(reason);
    expect(world.message('Ready', 'm')).toContain(message);
    expect(world.mirrors.get('m')?.status?.node).toBeUndefined();
    expect(world.cluster.agent('node-a').volumes.size).toBe(1);
  });

  test('a selector takes the first node that fits, by labels of the Node objects', async () => {
    world.nodes.push(node('node-c', { disk: 'ssd' }), node('node-b', { disk: 'ssd' }), node('node-a', { disk: 'ssd' }));
    world.createVolume({ nodeName: undefined, nodeSelector: { disk: 'ssd' } });
    world.createMirror('m', { nodeSelector: { disk: 'ssd' } });
    await world.settle();
    expect(world.volume?.status?.node).toBe('node-a');
    expect(world.mirrors.get('m')?.status?.node).toBe('node-b');
  });

  test('two mirrors do not share a node', async () => {
    world.createVolume();
    world.createMirror('one', { nodeName: 'node-b' });
    await world.settle();
    world.createMirror('two', { nodeName: 'node-b' });
    await world.settle();
    expect(world.condition('Ready', 'two')).toBe('False NodeHasCopy');
    expect(world.condition('Ready', 'one')).toBe('True InSync');
  });

  test('a pool is not promised twice', async () => {
    world.addPool('node-b', 'main', { capacity: '1536Mi' });
    world.addPool('node-b', 'buffer', { purpose: 'buffer', capacity: '32Mi' });
    world.createVolume({ size: '2Gi' });
    world.createMirror('m', { nodeName: 'node-b' });
    await world.settle();
    expect(world.condition('Ready', 'm')).toBe('False InsufficientCapacity');
    expect(world.message('Ready', 'm')).toContain('2Gi needed in pool main of node node-b, 1.5Gi left of 1536Mi');
    world = new PlannedWorld();
    world.addPool('node-b', 'buffer', { purpose: 'buffer', capacity: '32Mi' });
    world.createVolume();
    world.createMirror('m', { nodeName: 'node-b', buffer });
    await world.settle();
    expect(world.message('Ready', 'm')).toContain('64Mi needed in pool buffer');
  });

  test.each([
    ['the same pool', { pool: 'main', capacity: '1Mi' }, '/srv/buffer', 'False SameDisk'],
    ['a directory within', { pool: 'buffer', capacity: '1Mi' }, '/srv/main/buffer/', 'False SameDisk'],
    ['a directory beside it', { pool: 'buffer', capacity: '1Mi' }, '/srv/main-buffer', 'True OtherPool'],
  ])('a buffer in %s is allowed, with a warning where it is due', async (_, spec, directory, condition) => {
    world.addPool('node-b', 'buffer', { purpose: 'buffer', directory });
    world.createVolume();
    world.createMirror('m', { nodeName: 'node-b', buffer: spec });
    await world.settle();
    expect(world.condition('BufferOnOwnDisk', 'm')).toBe(condition);
    expect(world.condition('Ready', 'm')).toBe('True InSync');
  });
});

describe('what is wrong with an object holds up nothing else', () => {
  test('an invalid volume keeps what it has', async () => {
    world.createVolume();
    world.createMirror('m', { nodeName: 'node-b' });
    await world.settle();
    world.changeVolume({ size: '512Mi', pool: 'fast' });
    await world.settle();
    expect(world.condition('Ready')).toBe('False Invalid');
    expect(world.message('Ready')).toContain(
      'spec.pool: expected the value it was created with: it cannot change, got "fast"',
    );
    expect(world.condition('InSync', 'm')).toBe('True InSync');
    expect(await planned()).toEqual([]);
  });

  test('an automatic failover without an arbiter says what it needs, and the mirror is made', async () => {
    world.createVolume();
    world.createMirror('good', { nodeName: 'node-b' });
    world.createMirror('hopes', { nodeName: 'node-c', failover: { policy: 'Automatic' } });
    await world.settle();
    expect(world.condition('Ready', 'good')).toBe('True InSync');
    expect(world.condition('FailoverReady', 'hopes')).toBe('False NoArbiter');
  });

  test('a refusal of an agent is passed on in its words', async () => {
    world.createVolume();
    world.createMirror('m', { nodeName: 'node-b' });
    world.cluster.agent('node-b').fail('putVolume', 'NoSpace', 'the disk has 3Mi left', 1000);
    for (let look = 0; look < 3; look += 1) await world.reconcile();
    expect(world.condition('Ready', 'm')).toBe('False NoSpace');
    expect(world.message('Ready', 'm')).toBe('the disk has 3Mi left');
  });
});

describe('an asynchronous mirror', () => {
  const settings = { nodeName: 'node-b', mode: 'Asynchronous' };
  const told = () => world.cluster.agent('node-a').volume(world.agentVolume).spec.mirrors;

  test('follows, never claims to hold everything, and protects nothing', async () => {
    world.createVolume();
    world.createMirror('far', { ...settings, buffer });
    await world.settle();
    expect(told()).toEqual([{ name: 'far', address: 'node-b.test:7072', mode: 'asynchronous' }]);
    expect(world.condition('Ready', 'far')).toBe('True Asynchronous');
    expect(world.condition('InSync', 'far')).toBe('False Asynchronous');
    expect(world.condition('Protected')).toBe('False NoMirror');
    expect((await world.plan()).settled).toBe(true);
  });

  test('its journal, compression and limit reach the agent, also when they change', async () => {
    world.createVolume();
    world.createMirror('far', { ...settings, journal: { capacity: '1Gi' }, compression: 'Zstd' });
    await world.settle();
    expect(told()).toMatchObject([{ compression: 'zstd', journal: { capacity: 2 ** 30 } }]);
    const journal = { pool: 'buffer', capacity: '2Gi' };
    world.changeMirror('far', { journal, compression: undefined, resyncRateLimit: '10Mi' });
    await world.settle();
    expect(told()).toEqual([
      {
        name: 'far',
        address: 'node-b.test:7072',
        mode: 'asynchronous',
        journal: { pool: 'buffer', capacity: 2 ** 31 },
        resyncBytesPerSecond: 10 * 2 ** 20,
      },
    ]);
  });

  test('keeps its settings while its standby cannot be seen and something else changes', async () => {
    world.createVolume();
    world.createMirror('far', { ...settings, journal: { capacity: '1Gi' }, compression: 'Zstd' });
    await world.settle();
    const before = told();
    world.cluster.agent('node-b').down = true;
    world.createMirror('near', { nodeName: 'node-c' });
    await world.settle();
    expect(told()).toMatchObject([...before, { name: 'near', mode: 'synchronous' }]);
  });

  test.each([
    ['a journal', { journal: { capacity: '1Gi' } }, 'spec.journal: expected nothing while mode is Synchronous'],
    ['compression', { compression: 'Zstd' }, 'spec.compression: expected nothing while mode is Synchronous'],
  ])('%s where there can be none is refused', async (_, more, message) => {
    world.createVolume();
    world.createMirror('m', { nodeName: 'node-b', ...more });
    await world.settle();
    expect(world.condition('Ready', 'm')).toBe('False Invalid');
    expect(world.message('Ready', 'm')).toContain(message);
  });
});

describe('a cascade', () => {
  const agentSpec = (node: string) => world.cluster.agent(node).volume(world.agentVolume).spec;

  async function cascaded(): Promise<void> {
    world.createVolume();
    world.createMirror('near', { nodeName: 'node-b', buffer });
    world.createMirror('far', { nodeName: 'node-c', mode: 'Asynchronous', mirrorRef: { name: 'near' }, buffer });
    await world.settle();
  }

  test('is fed by the standby before it, not by the primary', async () => {
    await cascaded();
    expect(agentSpec('node-a').mirrors.map(({ name }) => name)).toEqual(['near']);
    expect(agentSpec('node-b').mirrors).toEqual([{ name: 'far', address: 'node-c.test:7072', mode: 'asynchronous' }]);
    expect(world.condition('Ready', 'near')).toBe('True InSync');
    expect(world.condition('Ready', 'far')).toBe('True Asynchronous');
    expect((await world.plan()).settled).toBe(true);
  });

  test('goes first: the standby before it waits, and both go when both are told to', async () => {
    await cascaded();
    world.deleteMirror('near');
    await world.settle();
    expect(world.message('DeletionBlocked', 'near')).toContain('feeds those of the mirrors far');
    world.deleteMirror('far');
    await world.settle();
    expect([...world.mirrors.keys()]).toEqual([]);
    expect(world.cluster.agent('node-b').volumes.size).toBe(0);
    expect(world.cluster.agent('node-c').volumes.size).toBe(0);
    expect(agentSpec('node-a').mirrors).toEqual([]);
  });

  test('is fed by the standby before it also when that has become the primary, and by nobody else', async () => {
    await cascaded();
    const b = world.cluster.agent('node-b');
    await b.prepare(world.agentVolume, 2);
    await b.putVolume(world.agentVolume, { ...agentSpec('node-b'), role: 'primary', epoch: 2 });
    await world.settle();
    expect(world.volume?.status).toMatchObject({ node: 'node-b', epoch: 2 });
    expect(agentSpec('node-b').mirrors.map(({ name }) => name)).toContain('far');
    expect(agentSpec('node-a').mirrors.map(({ name }) => name)).not.toContain('far');
    expect(agentSpec('node-c')).toMatchObject({ role: 'standby', epoch: 2 });
  });

  test('behind a mirror that is not there, or behind a cascade, is not made', async () => {
    await cascaded();
    const at = { nodeName: 'node-d', mode: 'Asynchronous' };
    world.createMirror('lost', { ...at, mirrorRef: { name: 'nowhere' } });
    world.createMirror('third', { ...at, mirrorRef: { name: 'far' } });
    await world.settle();
    expect(world.condition('Ready', 'lost')).toBe('False MirrorNotFound');
    expect(world.condition('Ready', 'third')).toBe('False NotSupported');
  });

  test('says what it waits for while the standby before it cannot be seen', async () => {
    await cascaded();
    world.cluster.agent('node-b').down = true;
    await world.settle();
    expect(world.condition('Ready', 'far')).toBe('False AgentUnreachable');
    expect(world.message('Ready', 'far')).toContain('of the standby of mirror near');
  });
});

describe('whoever is primary', () => {
  async function mirrored(): Promise<void> {
    world.createVolume();
    world.createMirror('m', { nodeName: 'node-b' });
    world.createMirror('n', { nodeName: 'node-c' });
    await world.settle();
  }

  async function promote(name: string, epoch: number): Promise<void> {
    const agent = world.cluster.agent(name);
    await agent.prepare(world.agentVolume, epoch);
    await agent.putVolume(world.agentVolume, { ...agent.volume(world.agentVolume).spec, role: 'primary', epoch });
  }

  test('a standby that is being promoted is left alone', async () => {
    await mirrored();
    await world.cluster.agent('node-b').prepare(world.agentVolume, 2);
    world.changeVolume({ size: '2Gi' });
    await world.settle();
    expect(world.condition('Ready', 'm')).toBe('False PromotionInProgress');
    expect(world.cluster.agent('node-b').volume(world.agentVolume).spec.size).toBe(2 ** 30);
  });

  test('the highest epoch counts; other mirrors follow it, the old primary is left as it is', async () => {
    await mirrored();
    const before = world.cluster.agent('node-a').changes.length;
    await promote('node-b', 2);
    await world.settle();
    expect(world.volume?.status).toMatchObject({ node: 'node-b', epoch: 2 });
    expect(world.cluster.agent('node-a').changes).toHaveLength(before);
    expect(world.volume?.status?.copies?.map(({ name, role, state }) => `${name} ${role} ${state}`)).toEqual([
      'origin Former Outdated',
      'm Primary Ready',
      'n Standby InSync',
    ]);
    expect(world.cluster.agent('node-c').volume(world.agentVolume).spec).toMatchObject({ role: 'standby', epoch: 2 });
    expect(world.condition('Protected')).toBe('True InSync');
  });

  test('a stale primary that comes back alone is not believed', async () => {
    await mirrored();
    await promote('node-b', 2);
    await world.settle();
    world.cluster.agent('node-b').down = true;
    const changes = world.cluster.agent('node-a').changes.length;
    await world.settle();
    expect(world.volume?.status).toMatchObject({ node: 'node-b', epoch: 2 });
    expect(world.condition('Ready')).toBe('False AgentUnreachable');
    expect(world.condition('InSync', 'n')).toBe('Unknown AgentUnreachable');
    expect(world.cluster.agent('node-a').changes).toHaveLength(changes);
  });

  test('two primaries of one epoch are reported, and nothing is done', async () => {
    await mirrored();
    await promote('node-b', 2);
    await promote('node-c', 2);
    await world.settle();
    expect(world.condition('Ready')).toBe('False TwoPrimaries');
    expect(await planned()).toEqual([]);
  });

  test('no primary at all is reported, and none is made', async () => {
    await mirrored();
    const a = world.cluster.agent('node-a');
    await a.putVolume(world.agentVolume, {
      ...a.volume(world.agentVolume).spec,
      role: 'standby',
      epoch: 2,
      mirrors: [],
    });
    await world.settle();
    expect(world.condition('Ready')).toBe('False NoPrimary');
    expect(await planned()).toEqual([]);
  });

  test('a link that someone made at the agent stays', async () => {
    await mirrored();
    const a = world.cluster.agent('node-a');
    const byHand = { name: 'archive', address: 'elsewhere:7072', mode: 'synchronous' } as const;
    const { spec } = a.volume(world.agentVolume);
    await a.putVolume(world.agentVolume, { ...spec, mirrors: [...spec.mirrors, byHand] });
    world.deleteMirror('n');
    await world.settle();
    expect(a.volume(world.agentVolume).spec.mirrors.map(({ name }) => name)).toEqual(['archive', 'm']);
    expect(world.cluster.agent('node-c').volumes.size).toBe(0);
  });
});

/** Things that people and the world do to a volume with mirrors on node-b and node-c. */
const happening = fc.oneof(
  fc.record({ what: fc.constant('create mirror' as const), on: fc.constantFrom('node-b', 'node-c') }),
  fc.record({ what: fc.constant('delete mirror' as const), on: fc.constantFrom('node-b', 'node-c') }),
  fc.record({
    what: fc.constantFrom('down' as const, 'up' as const),
    on: fc.constantFrom('node-a', 'node-b', 'node-c'),
  }),
  fc.record({ what: fc.constant('promote' as const), on: fc.constantFrom('node-b', 'node-c') }),
  fc.record({
    what: fc.constantFrom('grow' as const, 'step' as const, 'refuse' as const),
    on: fc.constantFrom('node-a', 'node-b'),
  }),
  fc.record({ what: fc.constant('delete volume' as const), on: fc.constant('node-a') }),
);

test('invariant 9: whatever happened, what is planned can be done, and then nothing is planned', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(happening, { maxLength: 12 }), async (happenings) => {
      world = new PlannedWorld();
      world.createVolume();
      let epoch = 1;
      for (const { what, on } of happenings) {
        epoch = await happen(what, on, epoch);
        await world.step();
      }
      for (const agent of world.cluster.agents.values()) agent.down = false;
      await world.settle();
      expect(await planned()).toEqual([]);
      checkChanges();
    }),
    { numRuns: 300 },
  );
});

async function happen(what: string, on: string, epoch: number): Promise<number> {
  const agent = world.cluster.agent(on);
  if (what === 'create mirror' && !world.mirrors.has(`on-${on}`)) world.createMirror(`on-${on}`, { nodeName: on });
  if (what === 'delete mirror') world.deleteMirror(`on-${on}`);
  if (what === 'delete volume') world.deleteVolume();
  if (what === 'down' || what === 'up') agent.down = what === 'down';
  if (what === 'grow') world.changeVolume({ size: '2Gi' });
  if (what === 'refuse') agent.fail('putVolume', 'NoSpace', 'the disk is full');
  if (what === 'step') await world.step();
  const copy = agent.volumes.get(world.agentVolume);
  if (what !== 'promote' || copy?.spec.role !== 'standby' || agent.down) return epoch;
  await agent.prepare(world.agentVolume, epoch + 1);
  const promoted = { ...copy.spec, role: 'primary' as const, epoch: epoch + 1 };
  // By hand, and not through the operator: it is not in the list of changes.
  const known = agent.changes.length;
  await agent.putVolume(world.agentVolume, promoted).catch(() => {});
  agent.changes.splice(known);
  return agent.volumes.get(world.agentVolume)?.spec.role === 'primary' ? epoch + 1 : epoch;
}

/** The operator never asked for a lower epoch than before, never for a change of role. */
function checkChanges(): void {
  for (const agent of world.cluster.agents.values()) {
    let last: { role: string; epoch: number } | undefined;
    for (const { call, spec } of agent.changes) {
      if (call === 'deleteVolume') last = undefined;
      if (spec === undefined) continue;
      if (last !== undefined) expect(spec.epoch).toBeGreaterThanOrEqual(last.epoch);
      if (last?.epoch === spec.epoch) expect(spec.role).toBe(last.role);
      if (last?.role === 'primary') expect(spec.role).toBe('primary');
      last = spec;
    }
  }
}

function node(name: string, labels: Record<string, string>) {
  return { apiVersion: 'v1', kind: 'Node', metadata: { name, uid: name, resourceVersion: '1', labels } };
}
