import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CowRig } from '../support/cow-rig.ts';
import { settle } from '../support/settle.ts';

/** Sectors of 512 bytes; the volume has 128 of them, in 16 chunks of 4 KiB. */
const range = fc
  .tuple(fc.nat(127), fc.integer({ min: 1, max: 24 }))
  .map(([sector, count]) => ({ offset: sector * 512, length: Math.min(count, 128 - sector) * 512 }));

const operation = fc.oneof(
  { weight: 10, arbitrary: range.map((at) => ({ kind: 'write' as const, ...at })) },
  { weight: 1, arbitrary: range.map((at) => ({ kind: 'writeFua' as const, ...at })) },
  { weight: 2, arbitrary: range.map((at) => ({ kind: 'trim' as const, ...at })) },
  { weight: 1, arbitrary: range.map((at) => ({ kind: 'writeZeroes' as const, ...at })) },
  { weight: 2, arbitrary: fc.constant({ kind: 'flush' as const }) },
  { weight: 3, arbitrary: range.map((at) => ({ kind: 'read' as const, ...at })) },
  { weight: 3, arbitrary: fc.constant({ kind: 'snapshot' as const }) },
  { weight: 2, arbitrary: fc.nat().map((which) => ({ kind: 'delete' as const, which })) },
  { weight: 2, arbitrary: fc.nat().map((which) => ({ kind: 'compare' as const, which })) },
  { weight: 3, arbitrary: fc.constant({ kind: 'settle' as const }) },
  { weight: 2, arbitrary: fc.constantFrom(1, 5, 1500).map((ms) => ({ kind: 'time' as const, ms })) },
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

const crash = fc.oneof(
  fc.nat(30).map((after) => ({ kind: 'powerCut' as const, after })),
  fc.constant({ kind: 'crash' as const }),
  fc.constant({ kind: 'kill' as const }),
  fc.constant({ kind: 'restart' as const }),
);
type Crash = typeof crash extends fc.Arbitrary<infer T> ? T : never;

async function perform(rig: CowRig, step: Operation | Crash, number: number): Promise<void> {
  switch (step.kind) {
    case 'write':
      return rig.writeRandomly(step.offset, step.length);
    case 'writeFua':
      return rig.write(step.offset, rig.random.bytes(step.length), true);
    case 'trim':
    case 'writeZeroes':
      return rig.zero(step.offset, step.length, step.kind);
    case 'flush':
      return rig.flush();
    case 'read':
      return rig.checkRead(step.offset, step.length);
    case 'snapshot':
      return rig.take(`s${number}`, rig.random.chance(0.1));
    case 'delete': {
      const names = [...rig.snapshots.keys()];
      if (names.length > 0) rig.delete(names[step.which % names.length] as string);
      return;
    }
    case 'compare':
      await rig.idle();
      return compare(rig, step.which);
    case 'settle':
      return settle();
    case 'time':
      return rig.clock.advance(step.ms);
    case 'powerCut':
      return rig.power.cutBefore(rig.power.operations + step.after);
    case 'crash':
      return rig.crash('power');
    case 'kill':
      return rig.crash('kill');
    case 'restart':
      return rig.restart();
  }
}

function compare(rig: CowRig, which: number): void {
  const ready = [...rig.snapshots].filter(([, snapshot]) => snapshot.state === 'ready').map(([name]) => name);
  const since = ready[which % ready.length];
  if (since === undefined) return;
  rig.checkChanged(since);
  for (const until of ready.slice((which % ready.length) + 1)) {
    if ((rig.device.snapshot(until)?.state ?? '') === 'Ready') rig.checkChanged(since, until);
  }
}

const runs = Number(process.env.MODEL_RUNS ?? 150);
const seeds = fc.nat();

test('snapshots, the live volume and what crashes leave of both are those of the dumb twin', {
  timeout: 300_000,
}, async () => {
  await fc.assert(
    fc.asyncProperty(
      seeds,
      fc.constantFrom(0, 0.3),
      fc.array(fc.oneof({ weight: 12, arbitrary: operation }, { weight: 1, arbitrary: crash }), { maxLength: 80 }),
      async (seed, slowness, steps) => {
        const rig = await CowRig.open({ seed, slowness, indexRegionBytes: 256 * 1024 });
        for (const [number, step] of steps.entries()) {
          if (rig.power.isOff) await rig.crash('power');
          await perform(rig, step, number);
        }
        if (rig.power.isOff) await rig.crash('power');
        rig.power.restore();
        await rig.idle();
        expect(rig.failures).toEqual([]);
        expect(rig.lost).toEqual([]);
        await rig.checkLive();
        await rig.checkSnapshots();
        await rig.restart();
        await rig.checkSnapshots();
        expect(rig.device.listSnapshots({ internal: true }).map(({ name }) => name)).toEqual([...rig.snapshots.keys()]);
      },
    ),
    { numRuns: runs },
  );
});

test('a buffer that is too small loses snapshots, and nothing else', { timeout: 300_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(
      seeds,
      fc.integer({ min: 0, max: 12 }),
      fc.constantFrom(0, 0.3),
      fc.array(fc.oneof({ weight: 12, arbitrary: operation }, { weight: 1, arbitrary: crash }), { maxLength: 80 }),
      async (seed, slots, slowness, steps) => {
        const rig = await CowRig.open({ seed, slowness, capacityBytes: slots * 4096 });
        for (const [number, step] of steps.entries()) {
          if (rig.power.isOff) await rig.crash('power');
          await perform(rig, step, number);
        }
        if (rig.power.isOff) await rig.crash('power');
        rig.power.restore();
        await rig.idle();
        // Only taking a snapshot may fail, when it is lost at once.
        for (const failure of rig.failures) expect(failure).toMatchObject({ code: 'Conflict' });
        await rig.checkLive();
        await rig.checkSnapshots('full');
        expect(rig.device.usage().usedBytes).toBeLessThanOrEqual(slots * 4096);
        await rig.restart();
        await rig.checkSnapshots('full');
      },
    ),
    { numRuns: runs },
  );
});
