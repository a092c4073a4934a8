import { beforeEach, describe, expect, test } from 'vitest';
import { type SnapshotRequestInput, snapshotRequestSchema } from '../../../agent/api/contract/snapshots.ts';
import type { SnapshotView } from '../../../agent/api/contract/volumes.ts';
import { SnapshotRequests } from '../../../agent/volume/snapshot-requests.ts';
import type { VolumeHost } from '../../../agent/volume/volume-host.ts';
import { type Lull, WriteActivity } from '../../../agent/volume/write-activity.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { Random } from '../../support/random.ts';
import { settle } from '../../support/settle.ts';

const stepMs = 5;
const blockBytes = 4096;

/** A file of several blocks that are updated one after the other: only when all are of one version it makes sense. */
class BurstyWriter {
  readonly blocks = new Array<number>(8).fill(0);
  readonly #activity: WriteActivity;
  readonly #random: Random;
  #pauseSteps = 0;
  #next = 0;

  constructor(activity: WriteActivity, random: Random) {
    this.#activity = activity;
    this.#random = random;
  }

  /** A burst is a write every 15 ms; between two bursts it pauses for 0.3 to 1 s. */
  step(): void {
    if (this.#pauseSteps > 0) {
      this.#pauseSteps -= 1;
      return;
    }
    this.blocks[this.#next] = (this.blocks[this.#next] ?? 0) + 1;
    this.#activity.written(blockBytes);
    this.#next = (this.#next + 1) % this.blocks.length;
    const pauseMs = this.#next === 0 ? 300 + this.#random.below(700) : 15;
    this.#pauseSteps = pauseMs / stepMs - 1;
  }

  get isHalfUpdated(): boolean {
    return new Set(this.blocks).size > 1;
  }
}

let clock: ManualClock;
let activity: WriteActivity;
let writer: BurstyWriter;
let requests: SnapshotRequests;
/** Whether the file was half updated at the barrier, of each snapshot. */
let halfUpdated: boolean[];
let write: () => void;

beforeEach(() => {
  clock = new ManualClock();
  activity = new WriteActivity(clock);
  writer = new BurstyWriter(activity, new Random(20_031_124));
  write = () => writer.step();
  requests = new SnapshotRequests(clock);
  halfUpdated = [];
});

/** Of a volume's thread, what takes snapshots of a mirror. */
const host = {
  call: async (method: string, ...parameters: unknown[]): Promise<unknown> => {
    if (method === 'waitForLull') return activity.waitForLull(parameters[0] as Lull);
    if (method === 'finishSnapshot') return { takenAt: 'then', consistency: 'crash', size: 1, attempt: parameters[0] };
    halfUpdated.push(writer.isHalfUpdated);
    return `attempt-${halfUpdated.length}`;
  },
} as Pick<VolumeHost, 'call'>;

async function pass(ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= stepMs) {
    write();
    clock.advance(stepMs);
    await settle(1);
  }
}

/** Asks for a snapshot, and lets time pass until there is an answer that is more than "waiting". */
async function snapshot(name: string, input: SnapshotRequestInput): Promise<SnapshotView> {
  const request = snapshotRequestSchema.parse({ mirror: 'm', ...input });
  for (;;) {
    let answer: { view: SnapshotView } | { error: unknown } | undefined;
    requests.put('v', name, request, host).then(
      (view) => {
        answer = { view };
      },
      (error: unknown) => {
        answer = { error };
      },
    );
    do {
      await settle();
      if (answer === undefined) await pass(stepMs);
    } while (answer === undefined);
    if ('error' in answer) throw answer.error;
    if (answer.view.state !== 'Waiting') return answer.view;
  }
}

test('snapshots at random times hit a file that is half updated; with a lull none does', {
  timeout: 60_000,
}, async () => {
  const random = new Random(32);
  const count = 200;
  const rate = async (name: string, input: SnapshotRequestInput) => {
    halfUpdated = [];
    let waitedMs = 0;
    for (let index = 0; index < count; index += 1) {
      await pass(stepMs * random.below(100));
      const { lull } = await snapshot(`${name}-${index}`, input);
      waitedMs += lull?.waitedMs ?? 0;
    }
    return { hits: halfUpdated.filter(Boolean).length, meanWaitedMs: waitedMs / count };
  };
  const without = await rate('without', {});
  const within = await rate('with', { lull: { quietForMs: 50 } });
  console.log(
    `half updated: ${without.hits} of ${count} without a lull, ${within.hits} with; waited ${within.meanWaitedMs} ms`,
  );
  expect(without.hits).toBeGreaterThan(0);
  expect(within.hits).toBe(0);
  expect(within.meanWaitedMs).toBeGreaterThan(0);
});

describe('a lull that does not come', () => {
  const lull = { quietForMs: 50, timeoutMs: 200 };
  beforeEach(() => {
    write = () => activity.written(blockBytes);
  });

  test('take: the snapshot is taken, and says how busy it was', async () => {
    await pass(100);
    const view = await snapshot('s', { lull: { ...lull, onTimeout: 'take' } });
    expect(view).toMatchObject({ state: 'Ready', lull: { found: false } });
    expect(view.lull?.waitedMs).toBeGreaterThanOrEqual(lull.timeoutMs);
    expect(view.lull?.bytesPerSecond).toBeGreaterThan(100 * blockBytes);
  });

  test('fail: there is no barrier, and the reason says how busy it was', async () => {
    await pass(100);
    await expect(snapshot('s', { lull: { ...lull, onTimeout: 'fail' } })).rejects.toThrow(
      /no lull of 50 ms within \d+ ms \(\d+ bytes a second at the end\)/,
    );
    expect(halfUpdated).toEqual([]);
  });

  test('fail: who asks again after the answer "waiting" learns of it, and then it is tried anew', async () => {
    await pass(100);
    const request = snapshotRequestSchema.parse({
      mirror: 'm',
      lull: { ...lull, timeoutMs: 6_000, onTimeout: 'fail' },
    });
    const first = requests.put('v', 's', request, host);
    await pass(5_500);
    expect((await first).state).toBe('Waiting');
    await pass(1_000);
    expect(requests.get('v', 's')).toBeUndefined();
    await expect(requests.put('v', 's', request, host)).rejects.toMatchObject({ code: 'Timeout' });
    write = () => {};
    await pass(100);
    expect((await snapshot('s', { lull })).lull).toEqual({ found: true, waitedMs: 0, bytesPerSecond: 0 });
  });
});

test('a lull that was there before the request is not waited for', async () => {
  await pass(2_000);
  write = () => {};
  await pass(100);
  expect((await snapshot('s', { lull: { quietForMs: 50 } })).lull).toEqual({
    found: true,
    waitedMs: 0,
    bytesPerSecond: 0,
  });
});
