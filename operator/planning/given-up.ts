import { type Finding, findCondition } from '../resources/conditions.ts';
import type { Snapshot } from '../resources/snapshot.ts';
import { notReady } from './findings.ts';

/** Reasons of a Snapshot that is not taken any more: no lull came, or its hooks failed too often. */
export const skippedReason = 'Skipped';
export const hooksFailedReason = 'HooksFailed';
/** Of a member of a group: it was not taken in the attempt, so that all of that is void. */
export const groupBrokenReason = 'GroupBroken';

/** What was said when a snapshot was given up, which is for good; undefined for any other. */
export function givenUpFinding({ status }: Snapshot): Finding | undefined {
  const said = findCondition(status?.conditions, 'Ready');
  if (said === undefined || status?.takenAt !== undefined) return undefined;
  return [skippedReason, hooksFailedReason].includes(said.reason) ? notReady(said.reason, said.message) : undefined;
}
