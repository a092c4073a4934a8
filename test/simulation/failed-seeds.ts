import type { FollowerKind } from './world.ts';

export interface FailedSeed {
  readonly seed: number;
  readonly defect: string;
  /** If it is not the one that the seed would draw. */
  readonly follower?: FollowerKind;
  readonly attacks?: boolean;
}

/** Seeds that found a defect once, and which. They are run with every test. */
export const failedSeeds: readonly FailedSeed[] = [
  { seed: 2, defect: 'a standby came in sync without a sync of what was flushed while it was not needed' },
  { seed: 38, defect: 'the same, after a promotion' },
  { seed: 9, defect: 'a primary was fenced for good by a standby that had only been prepared' },
  { seed: 59, defect: 'the same, where the promotion was given up' },
  { seed: 65, defect: 'a prepared standby that crashed before it was told could not become primary any more' },
  { seed: 2079, defect: 'the same, with a primary that was fenced already' },
  { seed: 12, defect: 'what a resync sent on a link that was down already was recorded nowhere' },
  {
    seed: 1007873749,
    follower: 'none',
    attacks: false,
    defect: 'a buffer that failed again while it was opened brought lost snapshots back',
  },
  {
    seed: 5000089,
    follower: 'none',
    attacks: false,
    defect: 'a device was closed before the sync of a write with FUA was over',
  },
  {
    seed: 740000257,
    attacks: false,
    defect: 'a flush ended without a standby that had been let go of, while that still counted as in sync',
  },
];
