import type { Finding } from '../resources/conditions.ts';
import type { Failure, Observation } from './actions.ts';

/** The reason of a condition for what went wrong at an agent; the failure's message goes with it. */
export function failureReason({ code, answered }: Failure): string {
  if (!answered) return 'AgentUnreachable';
  switch (code) {
    case 'Invalid':
      return 'RefusedByAgent';
    case 'Io':
      return 'DiskFailed';
    case 'Timeout':
      return 'TimedOut';
    default:
      return code;
  }
}

export function notReady(reason: string, message: string): Finding {
  return { type: 'Ready', status: 'False', reason, message };
}

export function notReadyAfter(failure: Failure): Finding {
  return notReady(failureReason(failure), failure.message);
}

/** Why nothing is known about a copy, for an observation that is not of a copy. */
export function unseen(node: string, observation: Observation): { readonly reason: string; readonly message: string } {
  switch (observation.kind) {
    case 'no-agent':
      return { reason: 'NoAgent', message: `no agent is configured for node ${node}` };
    case 'unreachable':
      return { reason: 'AgentUnreachable', message: observation.message };
    case 'absent':
      return { reason: 'CopyMissing', message: `the agent of node ${node} does not know the volume any more` };
    case 'present':
      return { reason: 'Present', message: `node ${node} has a copy` };
  }
}

/** "a, b and 3 more". */
export function listNames(names: readonly string[], limit = 5): string {
  const shown = names.slice(0, limit).join(', ');
  return names.length > limit ? `${shown} and ${names.length - limit} more` : shown;
}
