import { beforeEach, expect, test } from 'vitest';
import { AcknowledgementHolds } from '../../../agent/volume/acknowledgement-holds.ts';
import { HoldableDevice } from '../../../agent/volume/holdable-device.ts';
import { HeldDevice } from '../../support/held-device.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { MemoryDevice } from '../../support/memory-device.ts';
import { settle } from '../../support/settle.ts';

let clock: ManualClock;
let below: HeldDevice;
let device: HoldableDevice;
let holds: AcknowledgementHolds;
/** What `inOrder` waits for. */
let earlier: PromiseWithResolvers<void>;

beforeEach(() => {
  clock = new ManualClock();
  below = new HeldDevice(new MemoryDevice(4096));
  device = new HoldableDevice(below);
  holds = new AcknowledgementHolds('v', clock);
  earlier = Promise.withResolvers();
  earlier.resolve();
});

const hold = (attempt: string, deadlineMs = 100) =>
  holds.hold(attempt, deadlineMs, { hold: () => device.hold(), inOrder: () => earlier.promise });

/** What has been acknowledged, as it is. */
function operate(): { readonly acknowledged: string[]; readonly failed: string[] } {
  const acknowledged: string[] = [];
  const failed: string[] = [];
  const operations = {
    write: () => device.write(0, Buffer.alloc(512)),
    zero: () => device.writeZeroes(512, 512),
    trim: () => device.trim(1024, 512),
    flush: () => device.flush(),
    read: () => device.read(0, Buffer.alloc(512)),
  };
  for (const [name, run] of Object.entries(operations))
    (run() ?? Promise.resolve()).then(
      () => acknowledged.push(name),
      () => failed.push(name),
    );
  return { acknowledged, failed };
}

test('what is written during a hold is carried out at once, and acknowledged when it is released', async () => {
  expect(await hold('one')).toMatchObject({ attempt: 'one', state: 'Holding' });
  const { acknowledged } = operate();
  await settle();
  expect(acknowledged).toEqual(['read']);
  expect(below.calls.map((call) => call.split(' ')[0])).toEqual(['write', 'writeZeroes', 'trim', 'flush', 'read']);
  clock.advance(7);
  expect(holds.release('one')).toEqual({ attempt: 'one', state: 'Released', heldMs: 7 });
  await settle();
  expect(acknowledged).toHaveLength(5);
  expect(holds.release('one'), 'after a lost answer').toEqual({ attempt: 'one', state: 'Released', heldMs: 7 });
});

test('at the deadline everything is let go, and the attempt is void for good', async () => {
  await hold('late', 100);
  const { acknowledged } = operate();
  clock.advance(100);
  await settle();
  expect(acknowledged).toHaveLength(5);
  expect(holds.release('late')).toMatchObject({
    state: 'Void',
    heldMs: 100,
    reason: expect.stringMatching(/deadline/),
  });
  expect(() => holds.require('late')).toThrow(/not held for attempt late/);
  await expect(hold('late')).rejects.toThrow(/is over/);
  expect(clock.pendingTimers).toBe(0);
});

test('a failure is passed on at once, and as it is', async () => {
  below.holds.add('write');
  await hold('one');
  const { failed } = operate();
  for (const each of below.held) each.fail(new Error('the disk'));
  await settle();
  expect(failed).toEqual(['write']);
});

test('it is in force only when what was written before has its place in the stream', async () => {
  earlier = Promise.withResolvers();
  const held = hold('one');
  await settle();
  expect(() => holds.require('one')).toThrow(/not held/);
  earlier.resolve();
  await held;
  holds.require('one');
});

test('one that writes in front of it keep waiting until the deadline is refused, and so is one whose device is given up', async () => {
  earlier = Promise.withResolvers();
  const late = hold('late', 50);
  const refused = expect(late).rejects.toThrow(/have not got their place.*deadline/);
  clock.advance(50);
  await refused;
  const broken = hold('broken');
  const failed = expect(broken).rejects.toThrow(/have not got their place: fenced/);
  earlier.reject(new Error('fenced'));
  await failed;
  expect(holds.release('broken').state).toBe('Void');
});

test('one attempt at a time: another is refused, an unknown one is not found', async () => {
  await hold('one');
  await expect(hold('two')).rejects.toThrow(/held for attempt one/);
  expect(await hold('one')).toMatchObject({ state: 'Holding' });
  expect(() => holds.require('two')).toThrow(/not held for attempt two/);
  expect(() => holds.release('two')).toThrow(/no attempt two/);
  holds.letGo('the role was changed');
  expect(holds.release('one')).toMatchObject({ state: 'Void', reason: 'the role was changed' });
});
