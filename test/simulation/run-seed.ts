import { errorMessage } from '../../common/errors.ts';
import { Random } from '../support/random.ts';
import { attacksFor } from './attacks.ts';
import { configFor } from './config.ts';
import type { Follower } from './follower.ts';
import type { PrimaryLife } from './history.ts';
import type { SimulatedNode } from './node.ts';
import { honest, type Variant } from './variants.ts';
import { type FollowerKind, World } from './world.ts';

export interface RunOptions {
  readonly variant?: Variant;
  /** Instead of what the seed decides. */
  readonly follower?: FollowerKind | undefined;
  /** Instead of what the seed decides. */
  readonly attacks?: boolean | undefined;
  /** Shows every line of the trace. */
  readonly show?: (line: string) => void;
}

export interface RunResult {
  readonly seed: number;
  readonly violations: readonly string[];
  /** Of everything that happened, in order: the same for every run of the same seed. */
  readonly digest: string;
  readonly events: number;
  readonly operations: number;
  readonly epochs: number;
  /** Restores that were done, and promotions that accepted a loss. */
  readonly restores: number;
  readonly forced: number;
  readonly lastLines: readonly string[];
}

/** Simulates one seed from the creation of a volume to its end in peace, or to the first violation. */
export async function runSeed(seed: number, options: RunOptions = {}): Promise<RunResult> {
  const random = new Random(seed);
  const follower = options.follower ?? options.variant?.follower ?? followerFor(seed);
  const config = configFor(random.fork(), follower, attacksFor(seed, options.attacks));
  const world = new World(config, random.fork(), options.variant ?? honest, options.show);
  const { scheduler, violations, trace, workload } = world;
  const unhandled = (error: unknown) =>
    violations.report('none', `a rejection was not handled: ${errorMessage(error)}`);
  process.on('unhandledRejection', unhandled);
  try {
    trace.note('config', JSON.stringify(config));
    await trouble(world);
    if (violations.list.length === 0) await peace(world);
  } finally {
    process.off('unhandledRejection', unhandled);
  }
  return {
    seed,
    violations: violations.list,
    digest: trace.digest(),
    events: trace.events,
    operations: workload.done,
    epochs: world.history.epoch,
    restores: world.restores.done,
    forced: world.arbiter.forced.length,
    lastLines: [...trace.last, `simulated ${scheduler.nowMs.toFixed(0)} ms`],
  };
}

/** The first seeds have none: what they found is committed with them. */
function followerFor(seed: number): FollowerKind {
  if (seed < 10_000) return 'none';
  return new Random(seed + 1).pick(['none', 'primary', 'primary', 'cascade', 'cascade']);
}

async function trouble(world: World): Promise<void> {
  const { everyNode, follower, operator, workload, faults, snapshots, scheduler, config } = world;
  for (const node of everyNode) node.boot();
  await Promise.race([operator.reconcile(), world.run(10_000)]);
  operator.start();
  workload.start();
  faults.start();
  follower?.start();
  const act = () => {
    scheduler.after(config.snapshotEveryMs * (0.5 + Math.abs(Math.sin(scheduler.nowMs))), () => {
      if (scheduler.nowMs > config.durationMs) return;
      snapshots.act();
      act();
    });
  };
  act();
  await world.run(config.durationMs);
}

/** Nothing goes wrong any more: everything must come in order again, and be as it was promised. */
async function peace(world: World): Promise<void> {
  const { workload, faults, snapshots, violations, checkers, nodes, history, config } = world;
  faults.stop();
  workload.stop();
  faults.mend();
  const primary = () => nodes.find((node) => node.life && history.isCurrent(node.life) && isPrimary(world, node));
  const serving = () => {
    const node = primary();
    return node?.device !== undefined && !node.device.suspended && workload.underWay === 0;
  };
  // Without an arbiter a primary waits for a standby whose disk failed; a primary's own disk is nobody's to replace.
  const { follower } = world;
  const broken = world.everyNode.filter((node) => node.dataTrouble);
  if (broken.length === 0 || (config.arbiter === 'swap' && !broken.some((node) => isPrimary(world, node)))) {
    await mustCome(world, 'writes go on', serving);
  }
  if (broken.some((node) => isPrimary(world, node))) return;
  for (const node of broken) {
    snapshots.forget(node);
    world.splitBrain.forget(node);
    node.wipe();
    if (node === follower?.node) follower.forget();
    node.boot();
  }
  const inSync = () => {
    const node = primary();
    return (
      serving() && !world.restores.isUnderWay && node !== undefined && checkers.inSync(node).length === nodes.length - 1
    );
  };
  await mustCome(world, 'every mirror is in sync, and no restore is under way', inSync);
  const node = await lastFlush(world, () => (inSync() ? primary() : undefined));
  if (!node) return;
  if (violations.list.length > 0) return;
  checkers.idle(node, checkers.inSync(node));
  if (follower) {
    await mustCome(world, 'the follower has everything', () => follows(follower, node));
    if (violations.list.length > 0) return;
  }
  let checked = false;
  void Promise.all([snapshots.checkAll(), world.splitBrain.checkKept()]).then(() => {
    checked = true;
  });
  await mustCome(world, 'every snapshot has been looked at', () => checked);
}

/** Nothing is on its way to the follower any more, and it holds what the primary does. */
function follows({ mirror, node }: Follower, primary: SimulatedNode): boolean {
  if (mirror?.state !== 'InSync' || mirror.lagBytes > 0 || mirror.lagSeconds !== 0) return false;
  const image = primary.image();
  return node.image().every((stamp, sector) => stamp === image[sector]);
}

/** Flushes where the volume is; it may still be on its way to another node, where a promotion has begun before. */
async function lastFlush(world: World, where: () => SimulatedNode | undefined): Promise<SimulatedNode | undefined> {
  let flushed: SimulatedNode | undefined;
  let underWay = false;
  const flush = (node: SimulatedNode, life: PrimaryLife) => {
    underWay = true;
    const over = (there: SimulatedNode | undefined) => {
      underWay = false;
      flushed = there;
    };
    world.workload.flush(node, life).then(
      () => over(node),
      () => over(undefined),
    );
  };
  await mustCome(world, 'the last flush ends', () => {
    const node = where();
    if (!underWay && !flushed && node?.life) flush(node, node.life);
    return flushed !== undefined;
  });
  return flushed;
}

function isPrimary({ arbiter }: World, { name }: { name: string }): boolean {
  return arbiter.object.primary === name;
}

async function mustCome(world: World, what: string, condition: () => boolean): Promise<void> {
  const { violations, scheduler } = world;
  if (violations.list.length > 0) return;
  const came = await world.run(scheduler.nowMs + peaceMs, condition);
  if (came || violations.list.length > 0) return;
  violations.report('liveness', `nothing goes wrong any more, but this does not come: ${what}. ${stateOf(world)}`);
}

function stateOf({ nodes, arbiter, workload }: World): string {
  const states = nodes.map(({ name, record, device }) => ({
    name,
    role: record?.role,
    epoch: record?.epoch,
    unusable: record?.unusable,
    mirrors: device?.mirrors.map((mirror) => `${mirror.name} ${mirror.state} ${mirror.lastError ?? ''}`),
    suspended: device?.suspended,
    standby: record?.standby,
  }));
  return JSON.stringify({ object: arbiter.object, underWay: workload.underWay, states });
}

const peaceMs = 120_000;
