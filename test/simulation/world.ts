import type { MirrorTiming } from '../../agent/mirror/mirror-link-options.ts';
import { Random } from '../support/random.ts';
import { Checkers } from './checkers.ts';
import { Faults, type FaultWeights } from './faults.ts';
import { Follower, followerName } from './follower.ts';
import { History } from './history.ts';
import { SimulatedNode } from './node.ts';
import { SimulatedOperator } from './operator.ts';
import { Restores } from './restores.ts';
import { Scheduler } from './scheduler.ts';
import { SimulatedArbiter } from './simulated-arbiter.ts';
import { type NetworkTiming, SimulatedNetwork } from './simulated-network.ts';
import { SnapshotChecker } from './snapshot-checker.ts';
import { SplitBrain } from './split-brain.ts';
import { Trace } from './trace.ts';
import type { Variant } from './variants.ts';
import { Violations } from './violations.ts';
import { Workload, type WorkloadOptions } from './workload.ts';

export type FollowerKind = 'none' | 'primary' | 'cascade';

/** What a seed decides before a run begins. */
export interface WorldConfig {
  readonly nodes: number;
  /** A copy behind an asynchronous mirror of the primary, or behind one that node-b always has (a cascade). */
  readonly follower: FollowerKind;
  readonly volumeBytes: number;
  /** swap: the compare-and-swap of SimulatedArbiter; none: the volume suspends when it loses a standby. */
  readonly arbiter: 'swap' | 'none';
  readonly bufferBytes: number;
  readonly sparse: boolean;
  readonly timing: MirrorTiming;
  readonly network: NetworkTiming;
  readonly disk: { readonly slowness: number; readonly maxSyncMs: number };
  readonly workload: WorkloadOptions;
  readonly faults: FaultWeights;
  readonly faultEveryMs: number;
  readonly snapshotEveryMs: number;
  readonly arbiterLossiness: number;
  readonly durationMs: number;
  /** How fast the clocks of each node run; 1, where nothing is said. */
  readonly clockRates: readonly number[];
}

/** Everything that takes part in one run. */
export class World {
  readonly config: WorldConfig;
  readonly scheduler = new Scheduler();
  readonly trace: Trace;
  readonly violations: Violations;
  readonly network: SimulatedNetwork;
  readonly arbiter: SimulatedArbiter;
  readonly history: History;
  readonly nodes: readonly SimulatedNode[];
  /** The newest; others may live. */
  operator: SimulatedOperator;
  /** Nodes whose agents no operator reaches. */
  readonly unseen = new Set<string>();
  readonly restores: Restores;
  readonly splitBrain: SplitBrain;
  readonly workload: Workload;
  readonly checkers: Checkers;
  readonly snapshots: SnapshotChecker;
  readonly faults: Faults;
  readonly follower: Follower | undefined;

  constructor(config: WorldConfig, random: Random, variant: Variant, show: ((line: string) => void) | undefined) {
    this.config = config;
    const { scheduler } = this;
    this.trace = new Trace(() => scheduler.nowMs, show);
    this.violations = new Violations(this.trace);
    this.network = new SimulatedNetwork(scheduler, random.fork(), config.network);
    this.arbiter = new SimulatedArbiter(scheduler, random.fork(), this.trace, nodeName(0));
    this.arbiter.lossiness = config.arbiterLossiness;
    this.history = new History(config.volumeBytes, nodeName(0), this.violations, this.arbiter.forced);
    this.nodes = Array.from({ length: config.nodes }, (_, index) =>
      this.#makeNode(nodeName(index), random.fork(), variant),
    );
    this.operator = new SimulatedOperator(this, random.fork());
    this.workload = new Workload(this, random.fork(), config.workload);
    this.checkers = new Checkers(this);
    this.snapshots = new SnapshotChecker(this, random.fork());
    this.faults = new Faults(this, random.fork(), config.faults, config.faultEveryMs);
    this.restores = new Restores(this, new Random(random.seed + 3));
    this.splitBrain = new SplitBrain(this);
    this.follower =
      config.follower === 'none' ? undefined : new Follower(this, this.#makeNode(followerName, random.fork(), variant));
  }

  /** All agents reach the arbiter, and the operator all agents. */
  reachAll(): void {
    this.unseen.clear();
    this.arbiter.cutFrom.clear();
  }

  /** The operator dies, in the middle of whatever it does; another one starts some time later. */
  replaceOperator(afterMs: number): void {
    this.operator.die();
    const next = new SimulatedOperator(this, new Random(Math.floor(this.scheduler.nowMs * 1000)));
    this.operator = next;
    this.scheduler.after(afterMs, () => next.start());
  }

  /** One that does not know that it is not the leader any more, and is slow, acts as well for some time. */
  secondOperator(forMs: number): void {
    const other = new SimulatedOperator(this, new Random(Math.floor(this.scheduler.nowMs * 1000)), slowOperatorMs);
    other.start();
    this.scheduler.after(forMs, () => other.die());
  }

  /** With the follower, which counts for nothing in the decisions about the others. */
  get everyNode(): readonly SimulatedNode[] {
    return this.follower ? [...this.nodes, this.follower.node] : this.nodes;
  }

  node(name: string): SimulatedNode {
    const found = this.everyNode.find((node) => node.name === name);
    if (!found) throw new Error(`no node ${name}`);
    return found;
  }

  /** Runs until the time has come, the condition holds, or something is wrong; false if time ran out. */
  async run(untilMs: number, condition: () => boolean = () => false): Promise<boolean> {
    while (this.scheduler.nowMs < untilMs && this.violations.list.length === 0) {
      if (condition()) return true;
      if (!(await this.scheduler.step())) return condition();
      this.checkers.look();
    }
    return condition();
  }

  #makeNode(name: string, random: Random, variant: Variant): SimulatedNode {
    const { scheduler, network, trace, violations, history, config } = this;
    let ids = 0;
    return new SimulatedNode({
      name,
      volumeBytes: config.volumeBytes,
      scheduler,
      network,
      random,
      trace,
      violations,
      history,
      timing: config.timing,
      variant,
      follows: name === followerName,
      onLife: (life) => {
        this.splitBrain.lives(life);
        this.follower?.lives(`${life.node} in epoch ${life.epoch}, life ${life.life}`, life.order);
      },
      clockRate: config.clockRates[nameNumber(name)] ?? 1,
      arbiter: config.arbiter === 'swap' ? (scope) => this.arbiter.forPrimary(name, scope) : undefined,
      disk: config.disk,
      newId: () => {
        ids += 1;
        return `${name}-${ids}-${random.word().toString(16)}`;
      },
    });
  }
}

function nodeName(index: number): string {
  return `node-${'abc'[index] ?? index}`;
}

function nameNumber(name: string): number {
  return name === followerName ? 3 : 'abc'.indexOf(name.at(-1) ?? '');
}

const slowOperatorMs = 6_000;
