import { isDeepStrictEqual } from 'node:util';
import { decideSwap, recordHolderSchema } from '../../agent/arbiter/record-swap.ts';
import { errorCode, errorMessage } from '../../common/errors.ts';
import {
  type AgentAction,
  actionKey,
  type Observation,
  type Outcome,
  observationKey,
} from '../../operator/planning/actions.ts';
import type { ObjectPlan } from '../../operator/planning/object-plan.ts';
import { planVolume, type VolumePlan } from '../../operator/planning/plan-volume.ts';
import { allocations } from '../../operator/planning/pools.ts';
import { copiesToObserve, type VolumeWorld } from '../../operator/planning/volume-world.ts';
import { type Condition, type ConditionType, kubeTime } from '../../operator/resources/conditions.ts';
import type { Node } from '../../operator/resources/core-kinds.ts';
import { finalizer } from '../../operator/resources/group.ts';
import type { CustomObject } from '../../operator/resources/kube-object.ts';
import { type NodePool, nodePoolSpecSchema } from '../../operator/resources/node-pool.ts';
import { type PrimaryVolume, primaryVolumeSpecSchema } from '../../operator/resources/primary-volume.ts';
import type { Snapshot } from '../../operator/resources/snapshot.ts';
import { type StandbyMirror, standbyMirrorSpecSchema } from '../../operator/resources/standby-mirror.ts';
import { SimulatedCluster } from './simulated-agent.ts';

const apiVersion = 'understudy.dev/v1alpha1';
const namespace = 'shop';

/**
 * A volume with its mirrors, and agents, without an API server and without time: plans are made and carried out step by
 * step, as a test says.
 */
export class PlannedWorld {
  volume: PrimaryVolume | undefined;
  readonly mirrors = new Map<string, StandbyMirror>();
  readonly snapshots: Snapshot[] = [];
  readonly pools: NodePool[] = [];
  readonly nodes: Node[] = [];
  readonly cluster: SimulatedCluster;
  /** Nodes whose agents the operator is told of. */
  known: readonly string[];
  outcomes = new Map<string, Outcome>();

  constructor(nodes: readonly string[] = ['node-a', 'node-b', 'node-c']) {
    this.cluster = new SimulatedCluster(Object.fromEntries(nodes.map((node) => [node, ['main', 'buffer']])));
    this.known = nodes;
    for (const node of nodes) {
      this.addPool(node, 'main', { purpose: 'volumes' });
      this.addPool(node, 'buffer', { purpose: 'buffer' });
    }
  }

  addPool(node: string, name: string, spec: object = {}): void {
    const full = nodePoolSpecSchema.parse({ node, name, directory: `/srv/${name}`, ...spec });
    const at = this.pools.findIndex((pool) => pool.spec.node === node && pool.spec.name === name);
    const metadata = { name: `${node}-${name}`, uid: `pool-${node}-${name}`, resourceVersion: '1', generation: 1 };
    const pool = { apiVersion, kind: 'NodePool', metadata, spec: full };
    if (at < 0) this.pools.push(pool);
    else this.pools[at] = pool;
  }

  createVolume(spec: object = {}): void {
    this.volume = {
      apiVersion,
      kind: 'PrimaryVolume',
      metadata: { name: 'data', namespace, uid: 'v-uid', resourceVersion: '1', generation: 1 },
      spec: primaryVolumeSpecSchema.parse({ size: '1Gi', nodeName: 'node-a', ...spec }),
    };
  }

  createMirror(name: string, spec: object): void {
    this.mirrors.set(name, {
      apiVersion,
      kind: 'StandbyMirror',
      metadata: { name, namespace, uid: `${name}-uid`, resourceVersion: '1', generation: 1 },
      spec: standbyMirrorSpecSchema.parse({ primaryVolumeRef: { name: 'data' }, ...spec }),
    });
  }

  changeVolume(spec: object): void {
    if (this.volume) this.volume = { ...this.volume, spec: { ...this.volume.spec, ...spec } };
  }

  changeMirror(name: string, spec: object): void {
    const mirror = this.mirrors.get(name);
    if (mirror) this.mirrors.set(name, { ...mirror, spec: { ...mirror.spec, ...spec } });
  }

  deleteVolume(): void {
    if (this.volume) this.volume = deleting(this.volume);
  }

  deleteMirror(name: string): void {
    const mirror = this.mirrors.get(name);
    if (mirror) this.mirrors.set(name, deleting(mirror));
  }

  readonly agentVolume = 'pv-v-uid';
  nowMs = Date.parse('2026-01-01T00:00:00Z');

  /** The agents have the record of the volume for an arbiter from now on. */
  useArbiter(): void {
    this.cluster.arbiter = async (node, question, state) => {
      const { volume } = this;
      if (volume === undefined) return 'unreachable';
      const decision = decideSwap(recordHolderSchema.parse(volume), node, question, state);
      if (decision.do === 'answer') return decision.answer;
      const { arbiter } = volume.status ?? {};
      if (arbiter === undefined) return 'unreachable';
      this.volume = {
        ...volume,
        status: { ...volume.status, arbiter: { ...arbiter, ...decision.patch.status.arbiter } },
      };
      return 'granted';
    };
  }

  /** Time passes. */
  pass(seconds: number): void {
    this.nowMs += seconds * 1000;
  }

  /** An order by annotation. */
  annotate(annotations: Readonly<Record<string, string>>): void {
    if (this.volume) {
      const all = { ...this.volume.metadata.annotations, ...annotations };
      this.volume = { ...this.volume, metadata: { ...this.volume.metadata, annotations: all } };
    }
  }

  async plan(): Promise<VolumePlan> {
    return planVolume(await this.observed());
  }

  /** The next round of one reconciliation: what was planned is done. @returns whether there was anything to do. */
  async step(): Promise<boolean> {
    const plan = await this.plan();
    const actions = plan.actions.filter(
      (action) => !isDeepStrictEqual(this.outcomes.get(actionKey(action))?.action, action),
    );
    for (const action of actions) this.outcomes.set(actionKey(action), await this.#perform(action));
    if (actions.length > 0) return true;
    return this.#writeObjects(plan);
  }

  /** One reconciliation, to its end. @returns how many steps it took. */
  async reconcile(): Promise<number> {
    this.outcomes = new Map();
    for (let steps = 0; steps < 50; steps += 1) if (!(await this.step())) return steps;
    throw new Error(`it never ends: ${JSON.stringify((await this.plan()).actions)}`);
  }

  /** Reconciles until nothing is left to do. @throws if that does not come. */
  async settle(): Promise<void> {
    for (let look = 0; look < 20; look += 1) {
      const steps = await this.reconcile();
      // Links take some looks to come in sync.
      if (steps === 0 && look > 3) return;
    }
    throw new Error('every look finds something to do');
  }

  condition(type: ConditionType, mirror?: string): string | undefined {
    const object = mirror === undefined ? this.volume : this.mirrors.get(mirror);
    const found = object?.status?.conditions?.find((condition: Condition) => condition.type === type);
    return found && `${found.status} ${found.reason}`;
  }

  message(type: ConditionType, mirror?: string): string | undefined {
    const object = mirror === undefined ? this.volume : this.mirrors.get(mirror);
    return object?.status?.conditions?.find((condition: Condition) => condition.type === type)?.message;
  }

  async observed(): Promise<VolumeWorld> {
    const mirrors = [...this.mirrors.values()].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
    const volumes = this.volume ? [this.volume] : [];
    const observations = new Map<string, Observation>();
    for (const { node, volume } of copiesToObserve(this.volume, mirrors)) {
      observations.set(observationKey(node, volume), await this.#look(node, volume));
    }
    return {
      now: kubeTime(this.nowMs),
      key: { namespace, name: 'data' },
      volume: this.volume,
      mirrors,
      snapshots: this.snapshots,
      cluster: {
        pools: this.pools,
        nodes: this.nodes,
        allocations: allocations(volumes, mirrors),
        mirrorAddresses: new Map(this.known.map((node) => [node, this.cluster.agent(node).mirrorAddress])),
      },
      observations,
      outcomes: this.outcomes,
    };
  }

  async #look(node: string, volume: string): Promise<Observation> {
    if (!this.known.includes(node)) return { kind: 'no-agent' };
    try {
      const view = await this.cluster.agent(node).getVolume(volume);
      return view === undefined ? { kind: 'absent' } : { kind: 'present', view };
    } catch (error) {
      return { kind: 'unreachable', message: errorMessage(error) };
    }
  }

  async #perform(action: AgentAction): Promise<Outcome> {
    const agent = this.cluster.agent(action.node);
    try {
      if (action.type === 'put-volume') await agent.putVolume(action.volume, action.spec);
      if (action.type === 'delete-volume') await agent.deleteVolume(action.volume);
      if (action.type === 'prepare-volume')
        return { ok: true, action, prepared: await agent.prepare(action.volume, action.epoch) };
      return { ok: true, action };
    } catch (error) {
      return {
        ok: false,
        action,
        failure: { code: errorCode(error), message: errorMessage(error), answered: !agent.down },
      };
    }
  }

  #writeObjects(plan: VolumePlan): boolean {
    let changed = false;
    if (this.volume && plan.volume) {
      const written = write(this.volume, plan.volume);
      changed ||= !isDeepStrictEqual(written, this.volume);
      this.volume = written;
    }
    for (const [name, planned] of plan.mirrors) {
      const mirror = this.mirrors.get(name);
      if (mirror === undefined) continue;
      const written = write(mirror, planned);
      changed ||= !isDeepStrictEqual(written, mirror);
      if (written === undefined) this.mirrors.delete(name);
      else this.mirrors.set(name, written);
    }
    return changed;
  }
}

function deleting<T extends CustomObject<unknown, unknown>>(object: T): T {
  return { ...object, metadata: { ...object.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' } };
}

/** The object after its plan; undefined if that let it go. */
function write<Spec, Status>(
  object: CustomObject<Spec, Status>,
  plan: ObjectPlan<Status>,
): CustomObject<Spec, Status> | undefined {
  const finalizers = plan.finalizer === 'hold' ? [finalizer] : (object.metadata.finalizers ?? []);
  const left = plan.finalizer === 'release' ? [] : finalizers;
  if (object.metadata.deletionTimestamp !== undefined && left.length === 0) return undefined;
  const annotations = Object.fromEntries(
    Object.entries(object.metadata.annotations ?? {}).filter(([name]) => !plan.obeyed?.includes(name)),
  );
  const orders = object.metadata.annotations === undefined ? {} : { annotations };
  return { ...object, metadata: { ...object.metadata, ...orders, finalizers: left }, status: plan.status };
}
