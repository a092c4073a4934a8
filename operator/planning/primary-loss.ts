import type { Node } from '../resources/core-kinds.ts';
import { unseen } from './findings.ts';
import type { PrimaryFact } from './primary.ts';
import type { VolumeWorld } from './volume-world.ts';

/** Why the primary counts as lost, for all that can be seen from here. */
export interface PrimaryLoss {
  readonly reason: string;
  readonly message: string;
  /** Its own agent says so: whether the standby hears of it does not matter. */
  readonly provable?: boolean;
}

/** Undefined while the primary is there. Which node that is, the record says. */
export function lossOfPrimary(world: VolumeWorld, { node, observation, due }: PrimaryFact): PrimaryLoss | undefined {
  // Before it has been told that it is the primary, nothing of it is lost.
  if (due !== undefined) return undefined;
  switch (observation.kind) {
    case 'absent':
      return { ...unseen(node, observation), provable: true };
    case 'unreachable':
    case 'no-agent':
      return unseen(node, observation);
    case 'present': {
      const { state, lastError = 'it does not say why' } = observation.view;
      // A disk that failed a sync is never trusted again (rule 15).
      if (state === 'Failed') return { reason: 'DiskFailed', message: `node ${node}: ${lastError}`, provable: true };
      const object = world.cluster.nodes.find(({ metadata }) => metadata.name === node);
      return object !== undefined && isNotReady(object)
        ? { reason: 'NodeNotReady', message: `Node ${node} is not ready` }
        : undefined;
    }
  }
}

/** Its kubelet does not report, or says that it cannot run pods. */
export function isNotReady({ status }: Node): boolean {
  const ready = status?.conditions?.find(({ type }) => type === 'Ready');
  return ready !== undefined && ready.status !== 'True';
}
