import { isNotFound } from '../kube/kube-error.ts';
import { labelPlaces, type NodeLabelPlan, planNodeLabels } from '../planning/node-labels.ts';
import { type Node, nodes } from '../resources/core-kinds.ts';
import type { ControllerContext } from './controller-context.ts';
import type { Result } from './work-queue.ts';

/**
 * Keeps the labels on Nodes that PersistentVolumes are bound to. One key is one Node. A label that another node still has
 * is added only after that has lost it; a Node object that was deleted and made again gets its labels back.
 */
export class NodeLabelController {
  readonly #context: ControllerContext;

  constructor(context: ControllerContext) {
    this.#context = context;
  }

  async reconcile(key: string): Promise<Result> {
    const { caches, log, intervals } = this.#context;
    const node = caches.nodes.get({ name: key });
    if (node === undefined) return { type: 'done' };
    const places = labelPlaces(caches.volumes.list(), caches.mirrors.list());
    const { add, remove, waitsFor } = planNodeLabels(node, caches.nodes.list(), places, (namespace) =>
      caches.covers(namespace),
    );
    if (Object.keys(add).length + remove.length > 0) {
      await this.#patch(node, add, remove);
      log.info({ node: key, add: Object.keys(add), remove }, 'labels of a node changed');
    }
    return waitsFor.length === 0 ? { type: 'done' } : { type: 'again', afterMs: intervals.transitionalMs };
  }

  async #patch(node: Node, add: NodeLabelPlan['add'], remove: readonly string[]): Promise<void> {
    const labels = { ...add, ...Object.fromEntries(remove.map((label) => [label, null])) };
    const { name, uid } = node.metadata;
    try {
      // The uid is a precondition: another Node of that name is looked at anew.
      const written = await this.#context.api.patch(nodes, { name }, { metadata: { uid, labels } });
      this.#context.caches.nodes.put(written);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}
