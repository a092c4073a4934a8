import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Completion } from '../../agent/core/block-device.ts';
import { noArbiter } from '../../agent/mirror/arbiter.ts';
import { MemoryDevice } from '../support/memory-device.ts';
import { MirrorRig, type MirrorRigOptions, volumeSize } from '../support/mirror-rig.ts';
import { waitFor } from '../support/wait-for.ts';

/** Sectors of 512 bytes, few of them, so that operations overlap; some reach over the border of a region of 4 MiB. */
const range = fc
  .record({
    base: fc.constantFrom(0, 4 * 1024 * 1024 - 32 * 512),
    sector: fc.nat(63),
    count: fc.integer({ min: 1, max: 24 }),
  })
  .map(({ base, sector, count }) => ({ offset: base + sector * 512, length: Math.min(count, 64 - sector) * 512 }));

const step = fc.oneof(
  {
    weight: 12,
    arbitrary: fc
      .tuple(range, fc.integer({ min: 1, max: 255 }), fc.boolean())
      .map(([at, byte, fua]) => ({ kind: 'write' as const, ...at, byte, fua })),
  },
  { weight: 2, arbitrary: range.map((at) => ({ kind: 'trim' as const, ...at })) },
  { weight: 2, arbitrary: range.map((at) => ({ kind: 'zero' as const, ...at })) },
  { weight: 2, arbitrary: fc.constant({ kind: 'flush' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'cut' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'mend' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'restartStandby' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'restartPrimary' as const }) },
  { weight: 4, arbitrary: fc.constant({ kind: 'breathe' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'compare' as const }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** A mirrored volume beside a byte array, on which every operation is done as well. */
class Twins {
  readonly twin = Buffer.alloc(volumeSize);
  readonly rig: MirrorRig;
  #underWay: Completion[] = [];

  constructor(rig: MirrorRig) {
    this.rig = rig;
  }

  perform(step: Step): Promise<void> | void {
    const { rig } = this;
    switch (step.kind) {
      case 'write': {
        this.twin.fill(step.byte, step.offset, step.offset + step.length);
        this.#underWay.push(rig.primary.write(step.offset, Buffer.alloc(step.length, step.byte), { fua: step.fua }));
        return;
      }
      case 'trim':
        this.twin.fill(0, step.offset, step.offset + step.length);
        this.#underWay.push(rig.primary.trim(step.offset, step.length));
        return;
      case 'zero':
        this.twin.fill(0, step.offset, step.offset + step.length);
        this.#underWay.push(rig.primary.writeZeroes(step.offset, step.length));
        return;
      case 'flush':
        this.#underWay.push(rig.primary.flush());
        return;
      case 'cut':
        return rig.standby.cut();
      case 'mend':
        rig.standby.reachable = true;
        return;
      case 'restartStandby':
        return rig.standby.restart();
      case 'restartPrimary':
        return this.#restartPrimary();
      case 'breathe':
        // Operations come in bursts; between them each side hears of the other.
        return new Promise((resolve) => setTimeout(resolve, 3));
      case 'compare':
        return this.compare();
    }
  }

  async compare(): Promise<void> {
    this.rig.standby.reachable = true;
    await this.#done();
    expect(Buffer.compare(this.twin, this.rig.local.bytes)).toBe(0);
    // What an asynchronous standby has not yet been sent, it will be.
    await waitFor(() => this.rig.identical(), { timeoutMs: 20_000 });
  }

  async #restartPrimary(): Promise<void> {
    await this.#done();
    const { rig } = this;
    await rig.primary.close();
    const { bytes } = rig.local;
    rig.local = new MemoryDevice(volumeSize);
    await rig.local.write(0, bytes);
    await rig.startPrimary();
  }

  /** Every operation completes, whatever became of the standby: the arbiter lets the primary go on. */
  async #done(): Promise<void> {
    await Promise.all(this.#underWay.splice(0));
  }
}

const modes: readonly (MirrorRigOptions & { readonly name: string })[] = [
  { name: 'a synchronous mirror', arbiter: noArbiter('continue') },
  { name: 'an asynchronous mirror with a journal', journalBytes: 1024 * 1024, queueBytes: 64 * 1024 },
  {
    name: 'an asynchronous mirror without one, compressed',
    journalBytes: 0,
    queueBytes: 64 * 1024,
    compression: 'zstd',
  },
];

test.each(modes)(
  '$name: both copies are the dumb twin, whatever comes and goes',
  { timeout: 240_000 },
  async (options) => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60 }), async (steps) => {
        const rig = await MirrorRig.start(options);
        try {
          const twins = new Twins(rig);
          for (const next of steps) await twins.perform(next);
          await twins.compare();
          expect(rig.fenced).toBeUndefined();
        } finally {
          await rig.close();
        }
      }),
      { numRuns: Number(process.env.MODEL_RUNS ?? 15), endOnFailure: true },
    );
  },
);
