import type { Observation } from './actions.ts';
import { unseen } from './findings.ts';
import { isNotReady } from './node-readiness.ts';
import type { PrimaryFact } from './primary.ts';
import type { VolumeWorld } from './volume-world.ts';

/** Why a copy counts as lost, for all that can be seen from here. */
export interface CopyLoss {
  readonly reason: string;
  readonly message: string;
  /** Its own agent says so: whether the standby hears of it does not matter. */
  readonly provable?: boolean;
}

/** Undefined while the primary is there. Which node that is, the record says. */
export function lossOfPrimary(world: VolumeWorld, { node, observation, due }: PrimaryFact): CopyLoss | undefined {
  // Before it has been told that it is the primary, nothing of it is lost.
  return due === undefined ? lossOfCopy(world, node, observation) : undefined;
}

/** Undefined while the copy is there, its disk works, and its Node is ready. */
export function lossOfCopy(world: VolumeWorld, node: string, observation: Observation): CopyLoss | undefined {
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
