import { type Finding, setConditions } from '../resources/conditions.ts';
import { type NodePool, type NodePoolStatus, nodePools } from '../resources/node-pool.ts';
import { describeViolations, validateSpec } from '../resources/validate-spec.ts';
import { notReady } from './findings.ts';
import { type Allocation, freeBytes } from './pools.ts';

export interface NodePoolWorld {
  /** RFC 3339. */
  readonly now: string;
  readonly pool: NodePool;
  /** All of them, itself included. */
  readonly pools: readonly NodePool[];
  readonly allocations: readonly Allocation[];
  /** Whether the agent of its node answers. */
  readonly agent:
    | { readonly kind: 'answers' }
    | { readonly kind: 'unreachable'; readonly message: string }
    | { readonly kind: 'no-agent' };
}

/** What is said about a pool: whether its agent answers, and how much is placed in it. */
export function planNodePool(world: NodePoolWorld): NodePoolStatus {
  const { pool, allocations, now } = world;
  const here = allocations.filter(({ node, pool: name }) => node === pool.spec.node && name === pool.spec.name);
  const allocatedBytes = here.reduce((sum, { bytes }) => sum + bytes, 0);
  const left = freeBytes(pool, allocations, '');
  const { generation } = pool.metadata;
  return {
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    copies: here.length,
    allocatedBytes,
    ...(left === undefined ? {} : percentOf(allocatedBytes, left + allocatedBytes)),
    conditions: setConditions(pool.status?.conditions, [readyFinding(world)], { now, generation }),
  };
}

function percentOf(bytes: number, capacity: number): Pick<NodePoolStatus, 'allocatedPercent'> {
  return capacity > 0 ? { allocatedPercent: Math.ceil((100 * bytes) / capacity) } : {};
}

function readyFinding({ pool, pools, agent }: NodePoolWorld): Finding {
  const spec = validateSpec(nodePools, pool.spec);
  if (!spec.ok) return notReady('Invalid', describeViolations(spec.violations));
  const { node, name } = spec.value;
  const other = pools.find(
    ({ metadata, spec: theirs }) => metadata.uid !== pool.metadata.uid && theirs.node === node && theirs.name === name,
  );
  if (other !== undefined) {
    return notReady(
      'Duplicate',
      `NodePool ${other.metadata.name} is about pool ${name} of node ${node} as well; delete one`,
    );
  }
  switch (agent.kind) {
    case 'no-agent':
      return notReady('NoAgent', `no agent is configured for node ${node}`);
    case 'unreachable':
      return notReady('AgentUnreachable', agent.message);
    case 'answers':
      return { type: 'Ready', status: 'True', reason: 'AgentAnswers', message: 'its agent answers' };
  }
}
