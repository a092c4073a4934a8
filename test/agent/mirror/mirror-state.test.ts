import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { initialMirrorState, type MirrorEvent, type MirrorState, step } from '../../../agent/mirror/mirror-state.ts';

/** Runs a script of events and answers with the state and all effects. */
function play(state: MirrorState, ...events: MirrorEvent[]) {
  const effects: string[] = [];
  let current = state;
  for (const event of events) {
    const next = step(current, event);
    current = next.state;
    effects.push(...next.effects);
  }
  return { state: current, effects };
}

const upToConfirming: MirrorEvent[] = [{ type: 'connected' }, { type: 'resyncAccepted' }, { type: 'copied' }];
/** The first makes the standby needed, the second covers what was flushed until then. */
const confirmedTwice: MirrorEvent[] = [{ type: 'confirmed' }, { type: 'confirmed' }];
const granted = (question: 'outdated' | 'inSync'): MirrorEvent => ({ type: 'arbiter', question, answer: 'granted' });
const unreachable = (question: 'outdated' | 'inSync'): MirrorEvent => ({
  type: 'arbiter',
  question,
  answer: 'unreachable',
});

describe('coming in sync', () => {
  test('the standby is needed from the moment the swap is asked for', () => {
    const { state, effects } = play(initialMirrorState(false), ...upToConfirming, ...confirmedTwice);
    expect(state).toMatchObject({ phase: 'Confirming', needed: true, asking: 'inSync' });
    expect(effects).toEqual(['sendResyncEnd', 'persist', 'sendResyncEnd', 'persist', 'askInSync']);
  });

  test('what was flushed without it is synced once more before the swap is asked for', () => {
    const { state, effects } = play(initialMirrorState(false), ...upToConfirming, { type: 'confirmed' });
    expect(state).toMatchObject({ phase: 'Confirming', needed: true, asking: 'nothing' });
    expect(effects).toEqual(['sendResyncEnd', 'persist', 'sendResyncEnd']);
  });

  test('it is told only after the arbiter has granted it', () => {
    const { state, effects } = play(initialMirrorState(false), ...upToConfirming, ...confirmedTwice, granted('inSync'));
    expect(state).toMatchObject({ phase: 'InSync', needed: true, outdated: false });
    expect(effects.slice(-3)).toEqual(['persist', 'sendInSync', 'release']);
  });

  test('a lost answer does not make the primary go on alone', () => {
    const { state } = play(
      initialMirrorState(false),
      ...upToConfirming,
      ...confirmedTwice,
      { type: 'disconnected' },
      unreachable('inSync'),
    );
    expect(state).toMatchObject({ phase: 'Connecting', needed: true });
    expect(step(state, { type: 'away' }).effects).toEqual(['askOutdated']);
  });

  test('an answer to a question of an earlier connection does not stand in for the standby’s own confirmation', () => {
    const { state } = play(
      initialMirrorState(false),
      ...upToConfirming,
      ...confirmedTwice,
      { type: 'disconnected' },
      ...upToConfirming,
      granted('inSync'),
    );
    expect(state.phase).toBe('Confirming');
    expect(play(state, ...confirmedTwice).effects).toContain('askInSync');
  });
});

describe('losing it', () => {
  const inSync = play(initialMirrorState(false), ...upToConfirming, ...confirmedTwice, granted('inSync')).state;

  test('writes wait until Outdated is confirmed', () => {
    const lost = play(inSync, { type: 'disconnected' }, { type: 'away' }).state;
    expect(lost.needed).toBe(true);
    expect(play(lost, unreachable('outdated')).effects).toEqual(['retryQuestion']);
    const { state, effects } = play(lost, granted('outdated'));
    expect(state.needed).toBe(false);
    expect(effects).toEqual(['persist', 'release']);
  });

  test('a refusal fences for good', () => {
    const lost = play(inSync, { type: 'disconnected' }, { type: 'away' }).state;
    const { state } = play(lost, { type: 'arbiter', question: 'outdated', answer: 'refused' }, { type: 'connected' });
    expect(state.phase).toBe('Fenced');
  });

  test('a standby that comes back while the arbiter cannot be reached is brought in sync all the same', () => {
    const back = play(
      inSync,
      { type: 'disconnected' },
      { type: 'away' },
      ...upToConfirming,
      ...confirmedTwice,
      unreachable('outdated'),
    );
    expect(back.state.asking).toBe('inSync');
    expect(play(back.state, granted('inSync')).state.phase).toBe('InSync');
  });
});

describe('after a restart', () => {
  test('a standby that was in sync is needed until it accepts a resync', () => {
    const { state, effects } = play(initialMirrorState(true), { type: 'connected' }, { type: 'resyncAccepted' });
    expect(state.needed).toBe(false);
    expect(effects).toEqual(['persist', 'release']);
  });
});

test('whatever happens: needed is given up only on a confirmed Outdated or an accepted resync, and Fenced is final', () => {
  const answers = fc.constantFrom('granted', 'refused', 'unreachable');
  const events: fc.Arbitrary<MirrorEvent> = fc.oneof(
    fc.constantFrom<MirrorEvent>(
      { type: 'connected' },
      { type: 'disconnected' },
      { type: 'away' },
      { type: 'overdue' },
      { type: 'resyncAccepted' },
      { type: 'copied' },
      { type: 'confirmed' },
      { type: 'staleEpoch' },
    ),
    fc.record({
      type: fc.constant('arbiter' as const),
      question: fc.constantFrom('outdated', 'inSync'),
      answer: answers,
    }),
  );
  fc.assert(
    fc.property(fc.boolean(), fc.array(events, { maxLength: 60 }), (wasInSync, script) => {
      let state = initialMirrorState(wasInSync);
      for (const event of script) {
        const next = step(state, event).state;
        if (state.needed && !next.needed) {
          const outdated = event.type === 'arbiter' && event.question === 'outdated' && event.answer === 'granted';
          expect(outdated || event.type === 'resyncAccepted').toBe(true);
        }
        if (state.phase === 'Fenced') expect(next.phase).toBe('Fenced');
        if (next.phase === 'InSync') expect(next).toMatchObject({ needed: true, standbyConfirmed: true });
        if (next.asking === 'inSync') expect(next.needed || next.phase !== 'Confirming').toBe(true);
        state = next;
      }
    }),
    { numRuns: 5_000 },
  );
});
