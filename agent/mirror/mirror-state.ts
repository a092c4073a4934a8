/**
 * The primary's view of one synchronous standby: may a write complete without it, and who has to be asked.
 *
 * Invariants
 * - `needed` is true from the moment the swap to InSync is asked for until either Outdated has been confirmed, or the
 *   standby has durably accepted being a resync target: in both cases it cannot be promoted. While it is true, no write
 *   completes before the standby holds it, and none at all while the phase is not InSync or Confirming.
 * - The swap to InSync is asked for only when everything that was flushed while the standby was not needed is on its
 *   stable storage: the end of the resync is confirmed twice, once to make the standby needed (so that flushes wait for it
 *   from there on), and once more for what was flushed without it until then.
 * - A primary that has just started needs every standby that was in sync when it stopped: it may hold writes that the
 *   standby never saw, so it does no I/O before one of the two cases above has come to pass.
 * - Fenced is final.
 *
 * A pure state machine: `step` takes an event and returns the next state and the effects to carry out.
 */
export interface MirrorState {
  readonly phase: 'Connecting' | 'Handshaking' | 'Resyncing' | 'Confirming' | 'InSync' | 'Fenced';
  readonly needed: boolean;
  /** Confirmed as outdated for this epoch; a mirror that was never in sync is as well. */
  readonly outdated: boolean;
  /** On this connection, the standby has applied and synced everything up to a point at which it was needed already. */
  readonly standbyConfirmed: boolean;
  /** The question to the arbiter that is under way; there is never more than one. */
  readonly asking: 'nothing' | 'outdated' | 'inSync';
}

export type MirrorEvent =
  | { readonly type: 'connected' }
  | { readonly type: 'disconnected' }
  /** No write could be sent to the standby for the acknowledgement timeout: it is not there, or refuses, or is not ready. */
  | { readonly type: 'away' }
  /** Nothing was heard on a connection that has been up all this time: the standby hangs, or the network swallows everything. */
  | { readonly type: 'overdue' }
  | { readonly type: 'resyncAccepted' }
  /** Nothing is left to copy. */
  | { readonly type: 'copied' }
  /** The standby has applied and synced everything up to the last end of the resync that was sent. */
  | { readonly type: 'confirmed' }
  | { readonly type: 'arbiter'; readonly question: 'outdated' | 'inSync'; readonly answer: ArbiterAnswer }
  /** The standby knows a newer epoch. */
  | { readonly type: 'staleEpoch' };

export type ArbiterAnswer = 'granted' | 'refused' | 'unreachable';

export type MirrorEffect =
  | 'dropLink'
  | 'askOutdated'
  | 'askInSync'
  /** Ask the same question again after a pause. */
  | 'retryQuestion'
  | 'sendResyncEnd'
  | 'sendInSync'
  /** Writes that waited for this standby may be looked at again. */
  | 'release'
  | 'fence'
  /** Write the state down before anything depends on it. */
  | 'persist';

export interface Step {
  readonly state: MirrorState;
  readonly effects: readonly MirrorEffect[];
}

export function initialMirrorState(wasInSync: boolean): MirrorState {
  return { phase: 'Connecting', needed: wasInSync, outdated: !wasInSync, standbyConfirmed: false, asking: 'nothing' };
}

export function step(state: MirrorState, event: MirrorEvent): Step {
  if (state.phase === 'Fenced') return { state, effects: event.type === 'connected' ? ['dropLink'] : [] };
  switch (event.type) {
    case 'connected':
      return { state: { ...state, phase: 'Handshaking', standbyConfirmed: false }, effects: [] };
    case 'disconnected':
      return { state: { ...state, phase: 'Connecting', standbyConfirmed: false }, effects: [] };
    case 'away':
      return away(state, []);
    case 'overdue':
      return away({ ...state, phase: 'Connecting', standbyConfirmed: false }, ['dropLink']);
    case 'resyncAccepted':
      return resyncAccepted(state);
    case 'copied':
      if (state.phase !== 'Resyncing') return { state, effects: [] };
      return { state: { ...state, phase: 'Confirming' }, effects: ['sendResyncEnd'] };
    case 'confirmed':
      return confirmed(state);
    case 'arbiter':
      return answered(state, event.question, event.answer);
    case 'staleEpoch':
      return fenced(state);
  }
}

function away(state: MirrorState, effects: readonly MirrorEffect[]): Step {
  if (!state.needed || state.asking !== 'nothing') return { state, effects };
  return { state: { ...state, asking: 'outdated' }, effects: [...effects, 'askOutdated'] };
}

function resyncAccepted(state: MirrorState): Step {
  if (state.phase !== 'Handshaking') return { state, effects: [] };
  const next: MirrorState = { ...state, phase: 'Resyncing', needed: false };
  return { state: next, effects: state.needed ? ['persist', 'release'] : [] };
}

function confirmed(state: MirrorState): Step {
  if (state.phase !== 'Confirming' || state.standbyConfirmed) return { state, effects: [] };
  if (!state.needed) return { state: { ...state, needed: true }, effects: ['persist', 'sendResyncEnd'] };
  const next: MirrorState = { ...state, standbyConfirmed: true };
  return state.asking === 'nothing' ? askInSync(next) : { state: next, effects: [] };
}

function askInSync(state: MirrorState): Step {
  return { state: { ...state, needed: true, asking: 'inSync' }, effects: ['persist', 'askInSync'] };
}

function answered(state: MirrorState, question: 'outdated' | 'inSync', answer: ArbiterAnswer): Step {
  if (state.asking !== question) return { state, effects: [] };
  if (answer === 'refused') return fenced(state);
  const idle: MirrorState = { ...state, asking: 'nothing' };
  return question === 'outdated' ? outdatedAnswered(idle, answer) : inSyncAnswered(idle, answer);
}

function outdatedAnswered(state: MirrorState, answer: 'granted' | 'unreachable'): Step {
  // Meanwhile it has come back and been brought in sync: the question was overtaken.
  if (state.standbyConfirmed) return askInSync({ ...state, outdated: answer === 'granted' || state.outdated });
  if (answer === 'granted')
    return { state: { ...state, needed: false, outdated: true }, effects: ['persist', 'release'] };
  // While it is connected there is nothing to ask: it accepts the resync, or becomes overdue again.
  if (state.phase !== 'Connecting') return { state, effects: [] };
  return { state: { ...state, asking: 'outdated' }, effects: ['retryQuestion'] };
}

function inSyncAnswered(state: MirrorState, answer: 'granted' | 'unreachable'): Step {
  if (answer === 'unreachable') {
    // It may have been granted unseen. On the same connection it is asked again; otherwise the standby stays needed,
    // unless it has accepted a resync since, and becomes overdue if it stays away.
    return state.standbyConfirmed
      ? { state: { ...state, asking: 'inSync' }, effects: ['retryQuestion'] }
      : { state, effects: [] };
  }
  if (!state.standbyConfirmed) return { state: { ...state, outdated: false }, effects: ['persist'] };
  return {
    state: { ...state, phase: 'InSync', needed: true, outdated: false },
    effects: ['persist', 'sendInSync', 'release'],
  };
}

function fenced(state: MirrorState): Step {
  return { state: { ...state, phase: 'Fenced', asking: 'nothing' }, effects: ['dropLink', 'fence'] };
}
