import type { GroupHoldView } from '../../agent/api/contract/groups.ts';
import type { NodeView } from '../../agent/api/contract/node.ts';
import { type RestoreRequestInput, restoreRequestSchema } from '../../agent/api/contract/restore.ts';
import { type SnapshotRequestInput, snapshotRequestSchema } from '../../agent/api/contract/snapshots.ts';
import {
  type MirrorSpec,
  type MirrorState,
  type PrepareResult,
  type SnapshotView,
  type VolumeSpec,
  type VolumeSpecInput,
  type VolumeView,
  volumeSpecSchema,
} from '../../agent/api/contract/volumes.ts';
import type { ArbiterQuestion } from '../../agent/mirror/arbiter.ts';
import type { ArbiterAnswer } from '../../agent/mirror/mirror-state.ts';
import { type ErrorCode, UnderstudyError } from '../../common/errors.ts';
import { validate } from '../../common/validation.ts';
import {
  type AgentClient,
  type AgentDirectory,
  staticAgentDirectory,
} from '../../operator/agent-client/agent-client.ts';

type Call =
  | 'listVolumes'
  | 'getVolume'
  | 'putVolume'
  | 'deleteVolume'
  | 'prepare'
  | 'putSnapshot'
  | 'holdAcknowledgements'
  | 'releaseAcknowledgements'
  | 'putRestore'
  | 'giveUpRestore'
  | 'putHold'
  | 'deleteHold'
  | 'getSnapshot'
  | 'deleteSnapshot';

interface SimulatedVolume {
  spec: VolumeSpec;
  state: VolumeView['state'];
  attached: boolean;
  prepared: number | undefined;
  /** The epoch in which it became the primary. */
  since: number;
  /** What a restart, or a resynchronisation, leaves of a standby. */
  clean: boolean;
  consistent: boolean;
  /** Of what a standby holds, if not of its own epoch. */
  dataEpoch?: number;
  links: Map<string, MirrorState>;
  snapshots: Map<string, SnapshotView>;
  /** Requests that wait for a lull, with the mirror that they are for. */
  waiting: Map<string, string | undefined>;
  restore?: NonNullable<VolumeView['restore']>;
  /** Of a volume with a source: what it says about it. */
  filling?: NonNullable<VolumeView['filling']>;
  /** The last attempt of a group for which its acknowledgements were held. */
  group?: GroupHoldView;
  /** Holds on its snapshots: the snapshot by the name of the hold. */
  readonly holds: Map<string, string>;
}

/**
 * Agents in one process that keep to the contract of the real ones without any data: the same answers, refusals and state
 * changes. What tests make go wrong: an agent that is down, a call that fails, an answer that is lost on its way.
 */
export class SimulatedCluster {
  readonly agents = new Map<string, SimulatedAgent>();
  /** Links go from Connecting over Resyncing to InSync by one step at each look at the primary, unless this is false. */
  linksProgress = true;
  /** The arbiter of all agents; undefined: they have none. */
  arbiter:
    | ((node: string, question: ArbiterQuestion, state: 'InSync' | 'Outdated') => Promise<ArbiterAnswer>)
    | undefined;
  /** The time of day at the agents, as far as it matters: when snapshots are taken. */
  wallTime = () => '2026-01-02T03:04:05.678Z';
  /** Snapshots with a lull stay Waiting while this is true. */
  busy = false;
  /** Told of each snapshot at its barrier. */
  onSnapshot: () => void = () => {};

  constructor(nodes: Readonly<Record<string, readonly string[]>>) {
    for (const [node, pools] of Object.entries(nodes)) this.agents.set(node, new SimulatedAgent(this, node, pools));
  }

  agent(node: string): SimulatedAgent {
    const agent = this.agents.get(node);
    if (agent === undefined) throw new Error(`the test has no node ${node}`);
    return agent;
  }

  directory(nodes: readonly string[] = [...this.agents.keys()]): AgentDirectory {
    return staticAgentDirectory(
      nodes.map((node) => ({ node, client: this.agent(node), mirrorAddress: this.agent(node).mirrorAddress })),
    );
  }

  at(address: string): SimulatedAgent | undefined {
    return [...this.agents.values()].find((agent) => agent.mirrorAddress === address);
  }
}

export class SimulatedAgent implements AgentClient {
  readonly node: string;
  mirrorAddress: string;
  readonly volumes = new Map<string, SimulatedVolume>();
  /** Every change that was asked for, in order; for what must never be asked. */
  readonly changes: { readonly call: Call; readonly name: string; readonly spec?: VolumeSpecInput }[] = [];
  /** The most snapshots that a volume ever had here. */
  mostSnapshots = 0;
  /** Neither its API nor its mirror listener can be reached. */
  down = false;
  readonly #cluster: SimulatedCluster;
  readonly #pools: ReadonlySet<string>;
  readonly #failures: { call: Call; error: UnderstudyError; times: number }[] = [];
  readonly #lostReplies: { call: Call; times: number }[] = [];

  constructor(cluster: SimulatedCluster, node: string, pools: readonly string[]) {
    this.#cluster = cluster;
    this.node = node;
    this.mirrorAddress = `${node}.test:7072`;
    this.#pools = new Set(pools);
  }

  async getNode(): Promise<NodeView> {
    if (this.down) throw new UnderstudyError('Unavailable', `the agent of ${this.node} cannot be reached`);
    return { node: this.node, mirrorAddress: this.mirrorAddress };
  }

  /** The next calls of this kind are refused without any effect. */
  fail(call: Call, code: ErrorCode, message: string, times = 1): void {
    this.#failures.push({ call, error: refusal(code, message), times });
  }

  /** Calls of this kind no longer fail. */
  mend(call: Call): void {
    for (const failure of this.#failures) if (failure.call === call) failure.times = 0;
  }

  /** The next calls of this kind have their effect, but their answer gets lost. */
  /** Replies arrive again. */
  keepReplies(): void {
    this.#lostReplies.length = 0;
  }

  loseReplies(call: Call, times = 1): void {
    this.#lostReplies.push({ call, times });
  }

  volume(name: string): SimulatedVolume {
    const volume = this.volumes.get(name);
    if (volume === undefined) throw new Error(`node ${this.node} has no volume ${name}`);
    return volume;
  }

  async listVolumes(): Promise<VolumeView[]> {
    return this.#call('listVolumes', () => [...this.volumes].map(([name, volume]) => this.#view(name, volume)));
  }

  async getVolume(name: string): Promise<VolumeView | undefined> {
    return this.#call('getVolume', () => {
      const volume = this.volumes.get(name);
      return volume && this.#view(name, volume);
    });
  }

  async putVolume(name: string, input: VolumeSpecInput): Promise<VolumeView> {
    this.changes.push({ call: 'putVolume', name, spec: input });
    return this.#call('putVolume', () => {
      const spec = parseSpec(input);
      this.#checkPools(spec);
      const volume = this.volumes.get(name) ?? this.#create(name, spec);
      this.#change(name, volume, spec);
      return this.#view(name, volume);
    });
  }

  async deleteVolume(name: string): Promise<void> {
    this.changes.push({ call: 'deleteVolume', name });
    this.#call('deleteVolume', () => {
      const volume = this.volumes.get(name);
      const read = [...(volume?.snapshots.values() ?? [])].some(({ readers }) => readers > 0);
      if (volume?.attached || read) throw refusal('InUse', `volume ${name} is used by clients of its export`);
      this.volumes.delete(name);
    });
  }

  async prepare(name: string, epoch: number): Promise<PrepareResult> {
    return this.#call('prepare', () => {
      const volume = this.#known(name);
      if (volume.spec.role !== 'standby' || epoch <= volume.spec.epoch)
        throw refusal('Conflict', `cannot prepare ${name}`);
      if (epoch < (volume.prepared ?? 0)) throw refusal('Conflict', `${name} is prepared for ${volume.prepared}`);
      volume.prepared = epoch;
      const { clean, consistent } = volume;
      return { epoch, clean, consistent, dataEpoch: dataEpochOf(volume) };
    });
  }

  async putRestore(name: string, input: RestoreRequestInput): Promise<VolumeView> {
    this.changes.push({ call: 'putRestore', name: input.name });
    return this.#call('putRestore', () => {
      const { name: restore, snapshot, mirror, allowInUse } = restoreRequestSchema.parse(input);
      const volume = this.#known(name);
      if (volume.restore?.name !== restore) {
        if (volume.attached && !allowInUse) throw refusal('InUse', `volume ${name} has connections to its live export`);
        const holder = mirror === undefined ? volume : this.#standby(name, volume, mirror);
        if (!holder.snapshots.has(snapshot)) throw refusal('NotFound', `no snapshot ${snapshot} on this copy`);
        volume.restore = { name: restore, snapshot, state: 'Running', startedAt: '2026-01-02T03:04:06.000Z' };
      }
      return this.#view(name, volume);
    });
  }

  async giveUpRestore(name: string): Promise<void> {
    this.changes.push({ call: 'giveUpRestore', name });
    this.#call('giveUpRestore', () => {
      const volume = this.#known(name);
      if (volume.restore && volume.restore.state !== 'Done') volume.restore = { ...volume.restore, state: 'GivenUp' };
    });
  }

  async putHold(name: string, snapshot: string, hold: string): Promise<SnapshotView> {
    this.changes.push({ call: 'putHold', name: hold });
    return this.#call('putHold', () => {
      const volume = this.#known(name);
      const held = volume.snapshots.get(snapshot);
      if (held === undefined) throw refusal('NotFound', `no snapshot ${snapshot} on this copy`);
      volume.holds.set(hold, snapshot);
      return held;
    });
  }

  async deleteHold(name: string, _snapshot: string, hold: string): Promise<void> {
    this.changes.push({ call: 'deleteHold', name: hold });
    this.#call('deleteHold', () => this.volumes.get(name)?.holds.delete(hold));
  }

  async putSnapshot(name: string, snapshot: string, input: SnapshotRequestInput): Promise<SnapshotView> {
    this.changes.push({ call: 'putSnapshot', name: snapshot });
    return this.#call('putSnapshot', () => {
      const request = snapshotRequestSchema.parse(input);
      const volume = this.#known(name);
      const holder = request.mirror === undefined ? volume : this.#standby(name, volume, request.mirror);
      const taken = holder.snapshots.get(snapshot);
      if (taken !== undefined) return taken;
      const isHeld = volume.group?.state === 'Holding' && volume.group.attempt === request.group;
      if (request.group !== undefined && !isHeld) throw refusal('Conflict', `nothing is held for ${request.group}`);
      if (request.lull !== undefined && this.#cluster.busy) {
        volume.waiting.set(snapshot, request.mirror);
        return waitingView(snapshot);
      }
      volume.waiting.delete(snapshot);
      return this.#take(holder, snapshot, request.freeze === undefined ? 'crash' : 'filesystem', request.hooks);
    });
  }

  async holdAcknowledgements(name: string, attempt: string): Promise<GroupHoldView> {
    this.changes.push({ call: 'holdAcknowledgements', name: attempt });
    return this.#call('holdAcknowledgements', () => {
      const volume = this.#known(name);
      volume.group = { attempt, state: 'Holding', heldMs: 0 };
      return volume.group;
    });
  }

  async releaseAcknowledgements(name: string, attempt: string): Promise<GroupHoldView> {
    this.changes.push({ call: 'releaseAcknowledgements', name: attempt });
    return this.#call('releaseAcknowledgements', () => {
      const volume = this.#known(name);
      if (volume.group?.attempt !== attempt) throw refusal('NotFound', `no attempt ${attempt}`);
      if (volume.group.state === 'Holding') volume.group = { attempt, state: 'Released', heldMs: 3 };
      return volume.group;
    });
  }

  /** The deadline of what is held here has come. */
  letGo(name: string): void {
    const volume = this.volume(name);
    if (volume.group) volume.group = { ...volume.group, state: 'Void', reason: 'the deadline' };
  }

  async getSnapshot(name: string, snapshot: string): Promise<SnapshotView | undefined> {
    return this.#call('getSnapshot', () => {
      const volume = this.volumes.get(name);
      const waiting = volume?.waiting.has(snapshot) ? waitingView(snapshot) : undefined;
      return volume?.snapshots.get(snapshot) ?? waiting;
    });
  }

  async deleteSnapshot(name: string, snapshot: string): Promise<void> {
    this.changes.push({ call: 'deleteSnapshot', name: snapshot });
    this.#call('deleteSnapshot', () => {
      const volume = this.volumes.get(name);
      if ((volume?.snapshots.get(snapshot)?.readers ?? 0) > 0)
        throw refusal('InUse', `snapshot ${snapshot} is being read`);
      if ([...(volume?.holds.values() ?? [])].includes(snapshot))
        throw refusal('InUse', `snapshot ${snapshot} is kept for another volume`);
      volume?.snapshots.delete(snapshot);
    });
  }

  /** The lull has come: what waits at this primary is taken. */
  releaseLull(name: string): void {
    const volume = this.volume(name);
    for (const [snapshot, mirror] of volume.waiting) {
      this.#take(mirror === undefined ? volume : this.#standby(name, volume, mirror), snapshot, 'crash');
    }
    volume.waiting.clear();
  }

  #take(
    holder: SimulatedVolume,
    name: string,
    consistency: 'crash' | 'filesystem',
    hooks?: string | undefined,
  ): SnapshotView {
    this.#cluster.onSnapshot();
    const view = take(holder, name, consistency, this.#cluster.wallTime(), hooks);
    for (const agent of this.#cluster.agents.values()) agent.#count();
    return view;
  }

  #count(): void {
    for (const { snapshots } of this.volumes.values())
      this.mostSnapshots = Math.max(this.mostSnapshots, snapshots.size);
  }

  #call<Answer>(call: Call, answer: () => Answer): Answer {
    if (this.down) throw new UnderstudyError('Unavailable', `the agent of ${this.node} cannot be reached`);
    const failure = this.#failures.find((planned) => planned.call === call && planned.times > 0);
    if (failure !== undefined) {
      failure.times -= 1;
      throw failure.error;
    }
    const result = answer();
    const lost = this.#lostReplies.find((planned) => planned.call === call && planned.times > 0);
    if (lost === undefined) return result;
    lost.times -= 1;
    throw new UnderstudyError('Timeout', `the agent of ${this.node} did not answer`);
  }

  #known(name: string): SimulatedVolume {
    const volume = this.volumes.get(name);
    if (volume === undefined) throw refusal('NotFound', `no volume ${name} on this node`);
    return volume;
  }

  #checkPools(spec: VolumeSpec): void {
    for (const pool of [spec.pool, ...(spec.buffer ? [spec.buffer.pool] : [])]) {
      if (!this.#pools.has(pool)) throw refusal('NotFound', `this node has no pool ${pool}`);
    }
  }

  #create(name: string, spec: VolumeSpec): SimulatedVolume {
    const volume: SimulatedVolume = {
      spec,
      state: 'Ready',
      attached: false,
      prepared: undefined,
      since: spec.epoch,
      clean: true,
      consistent: true,
      links: new Map(),
      snapshots: new Map(),
      holds: new Map(),
      waiting: new Map(),
      ...(spec.source === undefined ? {} : { filling: fillingOf(spec.source, spec.size) }),
    };
    this.volumes.set(name, volume);
    return volume;
  }

  #change(name: string, volume: SimulatedVolume, spec: VolumeSpec): void {
    const { spec: before, prepared } = volume;
    if (spec.uid !== before.uid) throw refusal('Conflict', `volume ${name} has another uid`);
    if (spec.epoch < Math.max(before.epoch, prepared ?? 0)) throw refusal('Conflict', `epoch ${spec.epoch} is over`);
    if (spec.size < before.size || spec.pool !== before.pool)
      throw refusal('Conflict', 'it can neither shrink nor move');
    if (spec.buffer?.pool !== before.buffer?.pool && before.buffer) throw refusal('Conflict', 'its buffer cannot move');
    if (spec.role !== before.role) {
      if (spec.epoch === before.epoch) throw refusal('Conflict', 'the role changes with a higher epoch only');
      if (spec.role === 'primary' && prepared !== spec.epoch) throw refusal('Conflict', 'it has not been prepared');
    }
    const { arbiterKey = before.arbiterKey, peers = before.peers } = spec;
    if (spec.role === 'primary' && before.role === 'standby') volume.since = spec.epoch;
    if (spec.role !== before.role && spec.readers === 'disconnect') {
      for (const [snapshot, view] of volume.snapshots) volume.snapshots.set(snapshot, { ...view, readers: 0 });
    }
    volume.spec = {
      ...spec,
      ...(arbiterKey === undefined ? {} : { arbiterKey }),
      ...(peers === undefined ? {} : { peers }),
    };
    const links = spec.mirrors.map(({ name: mirror }) => [mirror, volume.links.get(mirror) ?? 'Connecting'] as const);
    volume.links = new Map(links);
  }

  #standby(name: string, primary: SimulatedVolume, mirror: string): SimulatedVolume {
    const link = primary.spec.mirrors.find((candidate) => candidate.name === mirror);
    if (link === undefined) throw refusal('NotFound', `volume ${name} has no mirror ${mirror}`);
    const state = this.#linkState(name, primary, link);
    const standby = this.#cluster.at(link.address)?.volumes.get(name);
    if (state === 'InSync' && standby !== undefined) return standby;
    throw refusal('NotReady', `mirror ${mirror} is ${state}, and a snapshot of it needs InSync`);
  }

  /** The link as it is now: up only while the standby is there and of the same epoch. */
  #linkState(name: string, primary: SimulatedVolume, link: MirrorSpec): MirrorState {
    const peer = this.#cluster.at(link.address);
    const standby = peer?.volumes.get(name);
    const up =
      peer !== undefined && !peer.down && standby?.spec.role === 'standby' && standby.spec.epoch === primary.spec.epoch;
    if (!up) {
      const was = primary.links.get(link.name);
      if (was === 'InSync') this.#ask(name, primary, link, 'Outdated');
      primary.links.set(link.name, was === 'InSync' || was === 'Outdated' ? 'Outdated' : 'Connecting');
    }
    return primary.links.get(link.name) ?? 'Connecting';
  }

  #advance(name: string, primary: SimulatedVolume, link: MirrorSpec): void {
    const peer = this.#cluster.at(link.address);
    const standby = peer?.volumes.get(name);
    if (!this.#cluster.linksProgress || peer?.down || standby?.spec.role !== 'standby') return;
    if (standby.spec.epoch !== primary.spec.epoch) return;
    const state = primary.links.get(link.name);
    if (state === 'InSync') return;
    primary.links.set(link.name, 'Resyncing');
    if (state === 'Resyncing') this.#ask(name, primary, link, 'InSync');
  }

  /** Without an arbiter, and for what it is not asked, the answer is yes, at once. */
  #ask(volume: string, primary: SimulatedVolume, { name, mode }: MirrorSpec, state: 'InSync' | 'Outdated'): void {
    const { uid, epoch, arbiterKey: key } = primary.spec;
    const granted = () => {
      if (state === 'InSync' && primary.spec.epoch === epoch && !this.down) primary.links.set(name, state);
    };
    const { arbiter } = this.#cluster;
    if (arbiter === undefined || key === undefined || mode === 'asynchronous') return granted();
    void arbiter(this.node, { volume, uid, epoch, mirror: name, key }, state).then(
      (answer) => answer === 'granted' && granted(),
    );
  }

  /** Whether a primary has a link to the standby here. */
  #isConnected(name: string, volume: SimulatedVolume): boolean {
    return [...this.#cluster.agents.values()].some((agent) => {
      const primary = agent.volumes.get(name);
      if (agent.down || primary?.spec.role !== 'primary' || primary.spec.epoch !== volume.spec.epoch) return false;
      return (
        (volume.prepared ?? 0) <= primary.spec.epoch &&
        primary.spec.mirrors.some(({ address }) => address === this.mirrorAddress)
      );
    });
  }

  #view(name: string, volume: SimulatedVolume): VolumeView {
    const { spec } = volume;
    const mirrors = spec.mirrors.map((link) => {
      const state = this.#linkState(name, volume, link);
      this.#advance(name, volume, link);
      const resync = state === 'Resyncing' ? { resync: { copiedBytes: spec.size / 4, totalBytes: spec.size } } : {};
      return { ...link, state, dirtyBytes: state === 'Outdated' ? 4096 : 0, lagBytes: 0, ...resync };
    });
    const waits =
      spec.role === 'primary' && spec.onLoss === 'suspend' && mirrors.some(({ state }) => state === 'Outdated');
    return {
      volume: name,
      ...(spec.uid === undefined ? {} : { uid: spec.uid }),
      role: spec.role,
      epoch: spec.epoch,
      size: spec.size,
      blockSize: spec.blockSize,
      pool: spec.pool,
      state: waits ? 'Suspended' : volume.state,
      nbd: `/run/understudy/nbd/${name}.sock`,
      consistent: spec.role === 'primary' || volume.consistent,
      clean: spec.role === 'primary' || volume.clean,
      arbiter: {
        available: this.#cluster.arbiter !== undefined,
        ...(spec.arbiterKey === undefined ? {} : { key: spec.arbiterKey }),
      },
      ...(spec.role === 'primary'
        ? { primarySince: volume.since }
        : { link: { connected: this.#isConnected(name, volume), state: 'InSync' as const } }),
      ...(volume.prepared === undefined ? {} : { prepared: volume.prepared }),
      ...(spec.role === 'standby' ? { dataEpoch: dataEpochOf(volume) } : {}),
      attached: volume.attached,
      ...(volume.restore === undefined ? {} : { restore: volume.restore }),
      ...(volume.filling === undefined ? {} : { filling: volume.filling }),
      mirrors,
      ...(spec.peers === undefined ? {} : { peers: spec.peers }),
      snapshots: [...volume.snapshots.values()],
      ...(spec.buffer === undefined
        ? {}
        : {
            buffer: {
              pool: spec.buffer.pool,
              capacityBytes: spec.buffer.capacity,
              maxSnapshots: spec.buffer.maxSnapshots,
              usedBytes: volume.snapshots.size * 4096,
            },
          }),
    };
  }
}

function parseSpec(input: VolumeSpecInput): VolumeSpec {
  const spec = validate(volumeSpecSchema, input);
  if (spec.ok) return spec.value;
  throw refusal('Invalid', spec.violations.map(({ message }) => message).join('; '));
}

function take(
  holder: SimulatedVolume,
  name: string,
  consistency: 'crash' | 'filesystem',
  takenAt: string,
  hooks: string | undefined,
): SnapshotView {
  if (holder.spec.buffer === undefined) throw refusal('Conflict', 'it has no buffer');
  if (holder.snapshots.size >= holder.spec.buffer.maxSnapshots) {
    throw refusal('NoSpace', `it keeps ${holder.snapshots.size} snapshots already`);
  }
  const view: SnapshotView = {
    name,
    state: 'Ready',
    valid: true,
    takenAt,
    ...(hooks === undefined ? {} : { hooks }),
    size: holder.spec.size,
    consistency,
    bufferBytes: 8192,
    exclusiveBytes: 4096,
    readers: 0,
  };
  holder.snapshots.set(name, view);
  return view;
}

function fillingOf(source: NonNullable<VolumeSpec['source']>, totalBytes: number): NonNullable<VolumeView['filling']> {
  const { volume, snapshot, address } = source;
  return { volume, snapshot, address, state: 'Filling', totalBytes, filledBytes: 0 };
}

function waitingView(name: string): SnapshotView {
  return { name, state: 'Waiting', valid: false, bufferBytes: 0, exclusiveBytes: 0, readers: 0 };
}

/** An answer of an agent, as against a failure to reach it. */
function refusal(code: ErrorCode, message: string): UnderstudyError {
  return new UnderstudyError(code, message, { labels: { status: 409 } });
}

function dataEpochOf({ dataEpoch, spec }: SimulatedVolume): number {
  return dataEpoch ?? spec.epoch;
}
