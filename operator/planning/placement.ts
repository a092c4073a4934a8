import { formatBytes } from '../../common/quantity.ts';
import { findCondition } from '../resources/conditions.ts';
import type { Node } from '../resources/core-kinds.ts';
import type { NodePool } from '../resources/node-pool.ts';
import { listNames } from './findings.ts';
import { isNotReady } from './node-readiness.ts';
import { type Allocation, findPool, freeBytes } from './pools.ts';

/** What is known about where things can be placed. */
export interface Cluster {
  readonly pools: readonly NodePool[];
  readonly nodes: readonly Node[];
  readonly allocations: readonly Allocation[];
  /** For each node that has an agent, host:port at which it takes mirror links, if that is known. */
  readonly mirrorAddresses: ReadonlyMap<string, string | undefined>;
}

export interface PlacementRequest {
  /** The uid of the object; what is promised to it already does not count against it. */
  readonly owner: string;
  readonly nodeName?: string | undefined;
  readonly nodeSelector?: Readonly<Record<string, string>> | undefined;
  readonly pool: string;
  readonly bytes: number;
  readonly buffer?: { readonly pool: string; readonly bytes: number } | undefined;
  /** Nodes that are out of the question, with the reason. */
  readonly taken: ReadonlyMap<string, string>;
}

export type Placement =
  | { readonly ok: true; readonly node: string }
  | { readonly ok: false; readonly reason: string; readonly message: string };

interface Obstacle {
  readonly reason: string;
  readonly message: string;
}

/**
 * Chooses the node for a copy: the one that is named, or, of those that the selector means, that have what is needed and
 * whose agents answer, the one with the least promised in its pool (and of equal ones the first by name).
 */
export function place(request: PlacementRequest, cluster: Cluster): Placement {
  if (request.nodeName !== undefined) {
    const obstacle = obstacleOn(request.nodeName, request, cluster);
    return obstacle === undefined ? { ok: true, node: request.nodeName } : { ok: false, ...obstacle };
  }
  const candidates = [...new Set(cluster.pools.map((pool) => pool.spec.node))]
    .filter((node) => matches(request.nodeSelector ?? {}, labelsOf(node, cluster)))
    .sort((a, b) => promisedOn(a, request, cluster) - promisedOn(b, request, cluster) || (a < b ? -1 : 1));
  const obstacles: string[] = [];
  for (const node of candidates) {
    const obstacle = obstacleOn(node, request, cluster) ?? unusable(node, request, cluster);
    if (obstacle === undefined) return { ok: true, node };
    obstacles.push(`${node}: ${obstacle.message}`);
  }
  const why = obstacles.length === 0 ? 'no node with a NodePool has these labels' : listNames(obstacles);
  return { ok: false, reason: 'NoFittingNode', message: `spec.nodeSelector fits no usable node (${why})` };
}

function promisedOn(node: string, request: PlacementRequest, cluster: Cluster): number {
  return cluster.allocations
    .filter((given) => given.node === node && given.pool === request.pool && given.owner !== request.owner)
    .reduce((sum, { bytes }) => sum + bytes, 0);
}

function obstacleOn(node: string, request: PlacementRequest, cluster: Cluster): Obstacle | undefined {
  const taken = request.taken.get(node);
  if (taken !== undefined) return { reason: 'NodeHasCopy', message: taken };
  if (!cluster.mirrorAddresses.has(node)) {
    return { reason: 'NoAgent', message: `no agent is configured for node ${node}` };
  }
  const pool = findPool(cluster.pools, node, request.pool);
  if (pool === undefined) return poolNotFound(node, request.pool, cluster);
  if (pool.spec.purpose !== 'volumes') {
    return { reason: 'WrongPurpose', message: `pool ${request.pool} of node ${node} is for buffers only` };
  }
  const { buffer } = request;
  const bufferPool = buffer && findPool(cluster.pools, node, buffer.pool);
  if (buffer !== undefined && bufferPool === undefined) return poolNotFound(node, buffer.pool, cluster);
  const together = buffer !== undefined && buffer.pool === request.pool;
  return (
    lacksSpace(pool, request.bytes + (together ? buffer.bytes : 0), request, cluster) ??
    (bufferPool && !together ? lacksSpace(bufferPool, buffer.bytes, request, cluster) : undefined)
  );
}

function poolNotFound(node: string, name: string, cluster: Cluster): Obstacle {
  const there = cluster.pools.filter((pool) => pool.spec.node === node).map((pool) => pool.spec.name);
  const found = there.length === 0 ? 'the node has no NodePool' : `the node has ${listNames(there.sort())}`;
  return { reason: 'PoolNotFound', message: `expected a NodePool for pool ${name} of node ${node}, but ${found}` };
}

function lacksSpace(pool: NodePool, bytes: number, request: PlacementRequest, cluster: Cluster): Obstacle | undefined {
  const free = freeBytes(pool, cluster.allocations, request.owner);
  if (free === undefined || free >= bytes) return undefined;
  const left = formatBytes(Math.max(0, free));
  const message = `${formatBytes(bytes)} needed in pool ${pool.spec.name} of node ${pool.spec.node}, ${left} left of ${pool.spec.capacity}`;
  return { reason: 'InsufficientCapacity', message };
}

/** Only where there is a choice: a node that is named has to be waited for. */
function unusable(node: string, request: PlacementRequest, cluster: Cluster): Obstacle | undefined {
  const object = cluster.nodes.find(({ metadata }) => metadata.name === node);
  if (object?.spec?.unschedulable === true) return { reason: 'NodeCordoned', message: 'it is cordoned' };
  if (object !== undefined && isNotReady(object)) return { reason: 'NodeNotReady', message: 'it is not ready' };
  const ready = findCondition(findPool(cluster.pools, node, request.pool)?.status?.conditions, 'Ready');
  return ready?.status === 'False' ? { reason: ready.reason, message: ready.message } : undefined;
}

/** A node's name counts as its hostname label even where the operator sees no Node objects; agents run on Linux only. */
function labelsOf(node: string, cluster: Cluster): Readonly<Record<string, string>> {
  const object = cluster.nodes.find(({ metadata }) => metadata.name === node);
  return { 'kubernetes.io/hostname': node, 'kubernetes.io/os': 'linux', ...object?.metadata.labels };
}

function matches(selector: Readonly<Record<string, string>>, labels: Readonly<Record<string, string>>): boolean {
  return Object.entries(selector).every(([key, value]) => labels[key] === value);
}
