import { Random } from '../support/random.ts';
import type { FaultWeights } from './faults.ts';

/** What the first seeds have none of: clocks that go wrong, operators that die at any step, restores, orders that accept a loss. */
export interface Attacks {
  /** How fast the clocks of each node run. */
  readonly clockRates: readonly number[];
  readonly faults: Pick<FaultWeights, (typeof attackFaults)[number]>;
}

export const attackFaults = [
  'clock jumps',
  'cut from arbiter',
  'cut from operator',
  'operator dies',
  'second operator',
  'restore',
  'force promotion',
] as const;

const none: Attacks = {
  clockRates: [],
  faults: {
    'clock jumps': 0,
    'cut from arbiter': 0,
    'cut from operator': 0,
    'operator dies': 0,
    'second operator': 0,
    restore: 0,
    'force promotion': 0,
  },
};

/** Drawn from numbers of their own, so that the seeds before them still do what they did. */
export function attacksFor(seed: number, wanted: boolean | undefined): Attacks {
  if (!(wanted ?? seed >= firstWithAttacks)) return none;
  const random = new Random(seed + 2);
  const often = () => random.pick([0, 1, 3]);
  return {
    clockRates: Array.from({ length: 4 }, () => random.pick([1, 1, 0.3, 0.95, 1.05, 3])),
    faults: {
      'clock jumps': often(),
      'cut from arbiter': often(),
      'cut from operator': often(),
      'operator dies': often(),
      'second operator': often(),
      restore: often(),
      'force promotion': random.pick([0, 0, 2, 4]),
    },
  };
}

const firstWithAttacks = 20_000;
