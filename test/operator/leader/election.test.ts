import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type ElectionState,
  electionTiming,
  initialState,
  isLeading,
  nextMove,
  type SeenLease,
  step,
} from '../../../operator/leader/election.ts';

const timing = electionTiming(15_000);
const lease = (changes: Partial<SeenLease> = {}): SeenLease => ({
  version: '1',
  holder: 'other',
  leaseMs: 15_000,
  transitions: 3,
  ...changes,
});

function after(...events: Parameters<typeof step>[1][]): ElectionState {
  return events.reduce((state, event) => step(state, event, 'me', timing), initialState);
}

test('a lease is created when there is none, and taken when it was released', () => {
  expect(nextMove(initialState, 'me', 0)).toEqual({ type: 'read' });
  expect(nextMove(after({ type: 'read', lease: undefined, atMs: 0 }), 'me', 0)).toEqual({ type: 'create' });
  const released = lease({ holder: undefined });
  expect(nextMove(after({ type: 'read', lease: released, atMs: 0 }), 'me', 0)).toEqual({
    type: 'update',
    lease: released,
    transitions: 4,
  });
});

test('the lease of another is taken only after its whole duration without a change, by the own clock', () => {
  const first = after({ type: 'read', lease: lease(), atMs: 1_000 });
  expect(nextMove(first, 'me', 15_999)).toEqual({ type: 'wait' });
  expect(nextMove(first, 'me', 16_000)).toMatchObject({ type: 'update', transitions: 4 });
  const seenAgain = step(first, { type: 'read', lease: lease(), atMs: 9_000 }, 'me', timing);
  expect(nextMove(seenAgain, 'me', 16_000).type).toBe('update');
  const renewed = step(first, { type: 'read', lease: lease({ version: '2' }), atMs: 9_000 }, 'me', timing);
  expect(nextMove(renewed, 'me', 23_999).type).toBe('wait');
  expect(nextMove(renewed, 'me', 24_000).type).toBe('update');
});

test('a leader leads for less time than others wait, counted from when it sent its renewal', () => {
  const state = after({ type: 'written', lease: lease({ holder: 'me' }), sentAtMs: 500 });
  expect(isLeading(state, 500 + timing.renewDeadlineMs - 1)).toBe(true);
  expect(isLeading(state, 500 + timing.renewDeadlineMs)).toBe(false);
  expect(nextMove(state, 'me', 2_500)).toMatchObject({ type: 'update', transitions: 3 });
  const failed = step(state, { type: 'failed' }, 'me', timing);
  expect(isLeading(failed, 5_000)).toBe(true);
  expect(nextMove(failed, 'me', 5_000)).toEqual({ type: 'read' });
});

test('a leader that reads another holder leads no more, at once', () => {
  const state = after(
    { type: 'written', lease: lease({ holder: 'me' }), sentAtMs: 0 },
    { type: 'failed' },
    { type: 'read', lease: lease({ version: '2' }), atMs: 100 },
  );
  expect(isLeading(state, 100)).toBe(false);
});

test('after a lost reply the lease is ours to renew, but it is led by only once a write was answered', () => {
  const state = after(
    { type: 'read', lease: undefined, atMs: 0 },
    { type: 'failed' },
    { type: 'read', lease: lease({ holder: 'me', version: '7' }), atMs: 100 },
  );
  expect(isLeading(state, 100)).toBe(false);
  expect(nextMove(state, 'me', 100)).toMatchObject({ type: 'update', transitions: 3 });
});

test('a deleted lease counts until it would have been over, for all but its holder', () => {
  const gone = { type: 'read', lease: undefined, atMs: 5_000 } as const;
  const candidate = after({ type: 'read', lease: lease(), atMs: 1_000 }, gone);
  expect(nextMove(candidate, 'me', 5_000)).toEqual({ type: 'wait' });
  expect(nextMove(candidate, 'me', 16_000)).toEqual({ type: 'create' });
  const holder = after({ type: 'written', lease: lease({ holder: 'me' }), sentAtMs: 0 }, { type: 'failed' }, gone);
  expect(nextMove(holder, 'me', 5_000)).toEqual({ type: 'create' });
});

/**
 * Two replicas with clocks of their own on one lease with versions. Writes arrive late and replies get lost; replicas stand
 * still for any time. Nothing in it uses the code under test except for the decisions.
 */
test('two replicas never lead at once, whatever is delayed or lost', () => {
  const action = fc.record({
    who: fc.constantFrom(0, 1),
    advanceMs: fc.integer({ min: 0, max: 9_000 }),
    outcome: fc.constantFrom('answered', 'answered', 'answered', 'reply-lost', 'request-lost'),
    deliveryMs: fc.integer({ min: 0, max: 9_000 }),
  });
  const skews = fc.tuple(fc.integer({ min: -1e9, max: 1e9 }), fc.integer({ min: -1e9, max: 1e9 }));
  let bothEver = 0;
  fc.assert(
    fc.property(skews, fc.array(action, { maxLength: 80 }), (skew, actions) => {
      let nowMs = 0;
      let version = 0;
      let stored: SeenLease | undefined;
      const states = [initialState, initialState];
      const leaders = () => [0, 1].filter((who) => isLeading(states[who] ?? initialState, nowMs + (skew[who] ?? 0)));
      const checked = () => {
        if (leaders().length > 1) bothEver += 1;
        expect(leaders().length).toBeLessThanOrEqual(1);
      };
      for (const { who, advanceMs, outcome, deliveryMs } of actions) {
        nowMs += advanceMs;
        checked();
        const identity = `replica-${who}`;
        const clock = () => nowMs + (skew[who] ?? 0);
        const tell = (event: Parameters<typeof step>[1]) => {
          states[who] = step(states[who] ?? initialState, event, identity, timing);
        };
        if (!isLeading(states[who] ?? initialState, clock())) tell({ type: 'failed' });
        if (states[who]?.stale) tell({ type: 'read', lease: stored, atMs: clock() });
        const move = nextMove(states[who] ?? initialState, identity, clock());
        if (move.type !== 'update' && move.type !== 'create') continue;
        const sentAtMs = clock();
        nowMs += deliveryMs;
        checked();
        const fits = move.type === 'create' ? stored === undefined : stored?.version === move.lease.version;
        if (outcome === 'request-lost' || !fits) {
          tell({ type: 'failed' });
          continue;
        }
        version += 1;
        stored = lease({ version: String(version), holder: identity });
        if (outcome === 'answered') tell({ type: 'written', lease: stored, sentAtMs });
        else tell({ type: 'failed' });
        checked();
      }
    }),
    { numRuns: 2_000 },
  );
  expect(bothEver).toBe(0);
});
