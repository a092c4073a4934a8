import { volumeSpecSchema } from '../../agent/api/contract/volumes.ts';
import { decideSwap, recordHolderSchema } from '../../agent/arbiter/record-swap.ts';
import {
  initialMirrorState,
  type MirrorEffect,
  type MirrorEvent,
  type MirrorState,
  step,
} from '../../agent/mirror/mirror-state.ts';
import { protocolVersion } from '../../agent/mirror/protocol.ts';
import { refusalOf } from '../../agent/volume/standby-copy.ts';
import { planChange } from '../../agent/volume/volume-change.ts';
import { newRecord, type VolumeRecord } from '../../agent/volume/volume-record.ts';

/**
 * What protocol.pml knows of the code: every transition of the primary's state machine, and every answer of the arbiter, of a
 * standby and of an agent that is told its role, for the epochs and nodes of the model. They are made by running the code, so
 * what the model checker explores are the decisions that agents take.
 */

/** Epochs run from 1 to this. */
export const epochs = 3;
const nodes = ['node-0', 'node-1'];
const uid = 'uid';
const whole = { volume: 'v', uid, size: 1024 * 1024, blockSize: 512 } as const;

export const events: readonly MirrorEvent[] = [
  { type: 'connected' },
  { type: 'disconnected' },
  { type: 'away' },
  { type: 'overdue' },
  { type: 'resyncAccepted' },
  { type: 'copied' },
  { type: 'confirmed' },
  { type: 'staleEpoch' },
  { type: 'arbiter', question: 'outdated', answer: 'granted' },
  { type: 'arbiter', question: 'outdated', answer: 'refused' },
  { type: 'arbiter', question: 'outdated', answer: 'unreachable' },
  { type: 'arbiter', question: 'inSync', answer: 'granted' },
  { type: 'arbiter', question: 'inSync', answer: 'refused' },
  { type: 'arbiter', question: 'inSync', answer: 'unreachable' },
];

/** Those that the model carries out; the others concern time only, and there is no time in it. */
const effects: readonly MirrorEffect[] = ['dropLink', 'sendResyncEnd', 'sendInSync', 'release', 'fence', 'persist'];
const untimed: readonly MirrorEffect[] = ['askOutdated', 'askInSync', 'retryQuestion'];

const phases = ['Connecting', 'Handshaking', 'Resyncing', 'Confirming', 'InSync', 'Fenced'] as const;
const questions = ['nothing', 'outdated', 'inSync'] as const;

/** protocol.pml includes this. */
export function tables(): string {
  const states = reachable();
  const at = (state: MirrorState) => states.findIndex((other) => same(other, state));
  const each = (name: string, value: (state: MirrorState) => number) => row(name, states.map(value));
  const steps = states.flatMap((state) => events.map((event) => step(state, event)));
  return [
    '/* Made of the code by "npm run generate"; do not edit. See tables.ts. */',
    `#define EPOCHS ${epochs}`,
    ...events.map((event, index) => `#define ${eventName(event)} ${index}`),
    `#define EVENTS ${events.length}`,
    ...effects.map((effect, index) => `#define ${constant('EFFECT', effect)} ${1 << index}`),
    ...phases.map((phase, index) => `#define ${constant('PHASE', phase)} ${index}`),
    ...questions.map((question, index) => `#define ${constant('ASKING', question)} ${index}`),
    '/* States of the machine of a primary for its standby, by number. */',
    `#define FRESH_NOT_NEEDED ${at(initialMirrorState(false))}`,
    `#define FRESH_NEEDED ${at(initialMirrorState(true))}`,
    each('phase_of', ({ phase }) => phases.indexOf(phase)),
    each('is_needed', ({ needed }) => Number(needed)),
    each('asking_of', ({ asking }) => questions.indexOf(asking)),
    '/* By state * EVENTS + event. */',
    row(
      'next_state',
      steps.map(({ state }) => at(state)),
    ),
    row(
      'effects_of',
      steps.map((taken) => effectBits(taken.effects)),
    ),
    '/* The arbiter, by (epoch and node of the record, node and epoch of the question). */',
    ...arbiterTable(),
    '/* A standby, by (role, epoch, prepared epoch, epoch of the hello). */',
    ...admissionTable(),
    '/* An agent that is told a role, by (role and epoch of its copy, prepared epoch, clean, consistent, role and epoch asked). */',
    ...changeTable(),
    '',
  ].join('\n');
}

function reachable(): MirrorState[] {
  const found = [initialMirrorState(false), initialMirrorState(true)];
  for (const state of found) {
    for (const event of events) {
      const next = step(state, event).state;
      if (!found.some((other) => same(other, next))) found.push(next);
    }
  }
  return found;
}

function same(a: MirrorState, b: MirrorState): boolean {
  return (['phase', 'needed', 'outdated', 'standbyConfirmed', 'asking'] as const).every((key) => a[key] === b[key]);
}

function effectBits(of: readonly MirrorEffect[]): number {
  return of.reduce((bits, effect) => {
    if (untimed.includes(effect)) return bits;
    const index = effects.indexOf(effect);
    if (index < 0) throw new Error(`the model does not know the effect ${effect}`);
    return bits | (1 << index);
  }, 0);
}

const decisions = { swap: 0, refused: 1, unreachable: 2 } as const;

function arbiterTable(): string[] {
  const cells = combinations([epochs, 2, 2, epochs]).map(([recordEpoch = 0, node = 0, asker = 0, askedEpoch = 0]) => {
    const arbiter = {
      revision: 1,
      epoch: recordEpoch + 1,
      since: 1,
      node: nodes[node],
      copy: `copy-${node}`,
      copies: [],
      divergent: [],
    };
    const holder = recordHolderSchema.parse({ metadata: { uid, resourceVersion: '1' }, status: { arbiter } });
    const question = { volume: 'v', uid, epoch: askedEpoch + 1, mirror: `copy-${1 - asker}` };
    const decision = decideSwap(holder, nodes[asker] ?? '', question, 'Outdated');
    return decisions[decision.do === 'swap' ? 'swap' : decision.answer];
  });
  return [
    ...Object.entries(decisions).map(([name, value]) => `#define ${constant('DECISION', name)} ${value}`),
    row('arbiter_decision', cells),
    '#define DECISION(re, rn, n, e) arbiter_decision[((((re) - 1) * 2 + (rn)) * 2 + (n)) * EPOCHS + (e) - 1]',
  ];
}

const admissions = { admitted: 0, StaleEpoch: 1, other: 2 } as const;

function admissionTable(): string[] {
  const cells = combinations([2, epochs, epochs + 1, epochs]).map(([role = 0, epoch = 0, prepared = 0, hello = 0]) => {
    const record = copyRecord(role, epoch + 1, prepared, true, true);
    const greeting = { ...whole, protocol: protocolVersion, epoch: hello + 1, mirror: 'm', generation: 1 };
    const refusal = refusalOf(record, whole, greeting);
    if (refusal === undefined) return admissions.admitted;
    return refusal.reason === 'StaleEpoch' ? admissions.StaleEpoch : admissions.other;
  });
  return [
    ...Object.entries(admissions).map(([name, value]) => `#define ${constant('ADMISSION', name)} ${value}`),
    row('admission', cells),
    '#define ADMISSION(r, e, p, h) admission[(((r) * EPOCHS + (e) - 1) * (EPOCHS + 1) + (p)) * EPOCHS + (h) - 1]',
  ];
}

function changeTable(): string[] {
  const dimensions = [2, epochs, epochs + 1, 2, 2, 2, epochs];
  const cells = combinations(dimensions).map(
    ([role = 0, epoch = 0, prepared = 0, clean = 0, consistent = 0, wantedRole = 0, wantedEpoch = 0]) => {
      const record = copyRecord(role, epoch + 1, prepared, clean === 1, consistent === 1);
      const spec = volumeSpecSchema.parse({ ...copySettings, role: roles[wantedRole], epoch: wantedEpoch + 1 });
      try {
        planChange(whole.volume, record, spec);
        return 1;
      } catch {
        return 0;
      }
    },
  );
  return [
    row('change_accepted', cells),
    '#define CHANGE_AT(r, e, p, cl, co) (((((r) * EPOCHS + (e) - 1) * (EPOCHS + 1) + (p)) * 2 + (cl)) * 2 + (co))',
    '#define CHANGE(r, e, p, cl, co, wr, we) change_accepted[(CHANGE_AT(r, e, p, cl, co) * 2 + (wr)) * EPOCHS + (we) - 1]',
  ];
}

const roles = ['standby', 'primary'] as const;
const copySettings = { size: whole.size, blockSize: whole.blockSize, pool: 'main', uid } as const;

/** `prepared`: for which epoch; 0 for none. */
function copyRecord(role: number, epoch: number, prepared: number, clean: boolean, consistent: boolean): VolumeRecord {
  const spec = volumeSpecSchema.parse({ ...copySettings, role: roles[role], epoch });
  const record = newRecord(whole.volume, spec);
  const preparedEpoch = prepared === 0 ? {} : { preparedEpoch: prepared };
  return { ...record, created: true, standby: { ...record.standby, clean, consistent, ...preparedEpoch } };
}

/** All combinations of numbers below these, the last one changing fastest. */
function combinations(dimensions: readonly number[]): number[][] {
  return dimensions.reduce<number[][]>(
    (found, below) => found.flatMap((head) => Array.from({ length: below }, (_, value) => [...head, value])),
    [[]],
  );
}

/** In C, so that it is no part of the state that spin keeps. */
function row(name: string, values: readonly number[]): string {
  return `c_decl { static const unsigned char ${name}[] = {${values.join(',')}}; }`;
}

function eventName(event: MirrorEvent): string {
  if (event.type !== 'arbiter') return constant('EVENT', event.type);
  return constant('EVENT', `${event.question}_${event.answer}`);
}

/** As preprocessors like it: EFFECT_DROP_LINK. */
function constant(kind: string, name: string): string {
  return `${kind}_${name.replace(/[A-Z]/g, (letter) => `_${letter}`).replace(/^_/, '')}`.toUpperCase();
}
