import type { Random } from '../support/random.ts';
import type { Attacks } from './attacks.ts';
import type { FaultWeights } from './faults.ts';
import type { FollowerKind, WorldConfig } from './world.ts';

const mebibyte = 1024 * 1024;

/** Draws the circumstances of a run. */
export function configFor(random: Random, follower: FollowerKind, attacks: Attacks): WorldConfig {
  const small = random.chance(0.7);
  return {
    follower,
    nodes: random.chance(0.75) ? 2 : 3,
    volumeBytes: (small ? 1 : random.pick([2, 4, 8])) * mebibyte,
    arbiter: random.chance(0.65) ? 'swap' : 'none',
    bufferBytes: random.pick([0, 256 * 1024, mebibyte, 16 * mebibyte]),
    sparse: random.chance(0.5),
    timing: random.chance(0.5)
      ? {
          acknowledgementTimeoutMs: 10_000,
          heartbeatMs: 2_000,
          reconnectMs: 250,
          arbiterRetryMs: 1_000,
          coldRegionMs: 4_000,
        }
      : { acknowledgementTimeoutMs: 1_000, heartbeatMs: 300, reconnectMs: 50, arbiterRetryMs: 200, coldRegionMs: 0 },
    network: { minDelayMs: 0.05, maxDelayMs: random.pick([0.2, 2, 20]), hiccups: random.pick([0, 0.01]) },
    disk: { slowness: random.pick([0, 0.1, 0.6]), maxSyncMs: random.pick([1, 10, 50]) },
    workload: {
      clients: 1 + random.below(4),
      thinkMs: random.pick([20, 80, 300]),
      maxSectors: random.pick([16, 128, 512]),
    },
    faults: { ...faultsFor(random), ...attacks.faults },
    clockRates: attacks.clockRates,
    faultEveryMs: random.pick([600, 2_000, 6_000]),
    snapshotEveryMs: random.pick([500, 3_000]),
    arbiterLossiness: random.pick([0, 0.05, 0.3]),
    durationMs: 20_000 + random.below(30_000),
  };
}

function faultsFor(random: Random): Omit<FaultWeights, keyof Attacks['faults']> {
  const often = () => random.pick([0, 1, 1, 3]);
  const seldom = () => (random.chance(0.2) ? 1 : 0);
  return {
    kill: often(),
    crash: often(),
    'crash all': often() / 2,
    restart: 1,
    cut: often(),
    'cut one way': often(),
    heal: 4,
    'arbiter down': often() / 2,
    'arbiter up': 2,
    promote: often(),
    'partition and promote': often(),
    'abandon promotion': seldom(),
    'buffer fails': seldom(),
    'buffer hangs': seldom(),
    'buffer recovers': 1,
    'data disk full': seldom(),
    'data disk fails': seldom() / 2,
    'orderly restart': seldom(),
    'drop mirror': seldom(),
    'move mirror': seldom(),
  };
}
