import { planNodePool } from '../planning/plan-node-pool.ts';
import { allocations } from '../planning/pools.ts';
import { kubeTime } from '../resources/conditions.ts';
import { parseKeyText } from '../resources/kube-object.ts';
import { type NodePoolSpec, type NodePoolStatus, nodePools } from '../resources/node-pool.ts';
import type { ControllerContext } from './controller-context.ts';
import { ObjectWriter } from './object-writer.ts';
import type { Result } from './work-queue.ts';

/** Says of every pool whether its agent answers, and what is in it. One key is one NodePool. */
export class NodePoolController {
  readonly #context: ControllerContext;
  readonly #writer: ObjectWriter<NodePoolSpec, NodePoolStatus>;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#writer = new ObjectWriter(context.api, nodePools, context.caches.pools, context.events);
  }

  async reconcile(key: string): Promise<Result> {
    const { caches, actions, clock, intervals } = this.#context;
    const pool = caches.pools.get(parseKeyText(key));
    if (pool === undefined) return { type: 'done' };
    const agent = await actions.ping(pool.spec.node);
    const status = planNodePool({
      now: kubeTime(clock.wallTimeMs()),
      pool,
      pools: caches.pools.list(),
      allocations: allocations(caches.volumes.list(), caches.mirrors.list()),
      agent,
    });
    await this.#writer.write(pool, { status, finalizer: 'keep' });
    return { type: 'again', afterMs: agent.kind === 'unreachable' ? intervals.transitionalMs : intervals.idleMs };
  }
}
