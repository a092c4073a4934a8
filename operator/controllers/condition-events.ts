import type { Condition } from '../resources/conditions.ts';

export interface ConditionEvent {
  readonly type: 'Normal' | 'Warning';
  readonly reason: string;
  readonly message: string;
}

/** Reasons that belong to the normal course of things although something is not so yet. */
const harmless = new Set([
  'Pending',
  'Waiting',
  'Deleting',
  'VolumeDeleting',
  'Connecting',
  'Resyncing',
  'Unlinking',
  'VolumeNotReady',
  'SourceNotReady',
  'WaitingForDependents',
  'Resizing',
  'NotYet',
  'KeepingBefore',
  'Restoring',
  'WaitingForSource',
  'Filling',
  'Releasing',
]);

/** Conditions that only summarise what others, or other objects, tell already. */
const silent: readonly string[] = ['Protected'];

/** What people should read about when conditions change: each change of a status or reason, once. */
export function conditionEvents(
  before: readonly Condition[] | undefined,
  after: readonly Condition[] | undefined,
): ConditionEvent[] {
  const events = new Map<string, ConditionEvent>();
  for (const { type, status, reason, message } of after ?? []) {
    const previous = before?.find((condition) => condition.type === type);
    if (silent.includes(type) || (previous?.status === status && previous.reason === reason)) continue;
    if (type === 'Configured' && (status === 'True' || harmless.has(reason))) continue;
    const good = (status === 'True') !== (type === 'DeletionBlocked');
    events.set(reason, { type: good || harmless.has(reason) ? 'Normal' : 'Warning', reason, message: message || type });
  }
  return [...events.values()];
}
