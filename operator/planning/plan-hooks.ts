import type { SnapshotView } from '../../agent/api/contract/volumes.ts';
import type { Finding } from '../resources/conditions.ts';
import type { SnapshotStatus } from '../resources/snapshot.ts';
import type { HooksStatus } from '../resources/snapshot-hooks.ts';
import { listNames, notReady } from './findings.ts';
import { hooksFailedReason } from './given-up.ts';

/**
 * The course of an attempt to take a snapshot with hooks. Pure.
 *
 * Invariants:
 * - An attempt is in the object's status, open (without `endedAt`), before its first pre hook is started.
 * - An open attempt is always left: post hooks are run, whatever became of its pre hooks, of the barrier, of the process
 *   that began it, and also when the object is being deleted. Only then is `endedAt` written.
 * - A process enters only attempts that it has named itself, and each of them once. One that is open and unknown to it was
 *   begun by a process that is gone: its commands may have ended at any time, so nothing is claimed of it.
 * - A snapshot is of consistency "application" only if the record that its barrier made names the attempt, and all of that
 *   attempt's pre hooks had succeeded, and all of its holds ended well after they had been told to, which was after the
 *   agent had said that the snapshot is there.
 */

/** After so many attempts it is given up: applications are not held again and again in vain. */
export const maxAttempts = 5;
const firstPauseMs = 5_000;

/** What this process knows of an attempt of its own. */
export interface HookSession {
  readonly attempt: string;
  /** Named: nothing was started. Held: pre hooks have run. Refused: one failed that must not. Left: post hooks have run. */
  readonly state: 'Named' | 'Held' | 'Refused' | 'Left';
  /** Every pre hook succeeded, and every hold went on until it was told to end, and then ended well. */
  readonly intact: boolean;
  readonly expired: boolean;
  /** It was left because the agent had said that the snapshot is there. */
  readonly covered: boolean;
  readonly problems: readonly string[];
  readonly heldMs?: number | undefined;
}

/** What is known for the hooks of a snapshot. */
export interface HookFacts {
  readonly session: HookSession;
  /** Where pre hooks are to run, as the status names it. */
  readonly targets: readonly string[];
  /** Pre hooks with `onError: Fail` that find no pod. */
  readonly missing: readonly string[];
}

export type HookAction =
  | { readonly do: 'enter'; readonly attempt: string }
  | {
      readonly do: 'leave';
      readonly attempt: string;
      readonly startedAt: string;
      /** The agent has said that the snapshot is there. */
      readonly covered: boolean;
      /** Why it is left without. */
      readonly problem?: string;
    };

export function openAttempt(status: SnapshotStatus | undefined): HooksStatus | undefined {
  const hooks = status?.hooks;
  return hooks === undefined || hooks.endedAt !== undefined ? undefined : hooks;
}

export type HookStep =
  /** Write this down, and plan again. */
  | { readonly type: 'write'; readonly hooks: HooksStatus }
  | { readonly type: 'act'; readonly action: HookAction }
  /** Applications are held, or were held until the snapshot was there: it is to be asked for. */
  | { readonly type: 'request'; readonly hooks: HooksStatus }
  | { readonly type: 'wait'; readonly finding: Finding };

/** What is to be done next for a snapshot that is not there yet. */
export function nextHookStep(
  status: SnapshotStatus | undefined,
  facts: HookFacts,
  now: { readonly now: string; readonly nowMs: number },
): HookStep {
  const open = openAttempt(status);
  if (open === undefined) return begin(status?.hooks, facts, now);
  const { session } = facts;
  if (session.attempt !== open.attempt) return leaving(open, interrupted);
  switch (session.state) {
    case 'Named':
      return { type: 'act', action: { do: 'enter', attempt: open.attempt } };
    case 'Held':
      return session.expired
        ? leaving(open, 'applications were held until the deadline')
        : { type: 'request', hooks: open };
    case 'Refused':
      return leaving(open);
    case 'Left':
      return { type: session.covered ? 'request' : 'write', hooks: ended(open, session, now.now) };
  }
}

const interrupted = 'the operator was restarted while applications were held';

type Withdrawal = Extract<HookStep, { type: 'write' | 'act' }>;

/** Ends an open attempt in which no snapshot was taken: by running its post hooks, and then by writing that down. */
export function withdraw(open: HooksStatus, { session }: HookFacts, now: string, problem: string): Withdrawal {
  const isLeft = session.attempt === open.attempt && session.state === 'Left';
  return isLeft ? { type: 'write', hooks: ended(open, session, now) } : leaving(open, problem);
}

/** The snapshot is there: the attempt ends by running its post hooks. */
export function complete({ attempt, startedAt }: HooksStatus): HookAction {
  return { do: 'leave', attempt, startedAt, covered: true };
}

function leaving({ attempt, startedAt }: HooksStatus, problem?: string): Withdrawal {
  const why = problem === undefined ? {} : { problem };
  return { type: 'act', action: { do: 'leave', attempt, startedAt, covered: false, ...why } };
}

/** An attempt that was left, for the status. */
function ended(open: HooksStatus, { problems, heldMs }: HookSession, now: string): HooksStatus {
  return {
    ...open,
    endedAt: now,
    ...(heldMs === undefined ? {} : { heldMilliseconds: Math.ceil(heldMs) }),
    ...(problems.length === 0 ? {} : { problems: [...problems] }),
  };
}

function begin(
  last: HooksStatus | undefined,
  { session, targets, missing }: HookFacts,
  { now, nowMs }: { readonly now: string; readonly nowMs: number },
): HookStep {
  const attempts = last?.attempts ?? 0;
  const problems = listNames(last?.problems ?? []);
  if (attempts >= maxAttempts) {
    const message = `given up after ${attempts} attempts: ${problems}; mend that, and make another Snapshot`;
    return { type: 'wait', finding: notReady(hooksFailedReason, message) };
  }
  const pausedUntilMs = Date.parse(last?.endedAt ?? now) + firstPauseMs * 2 ** (attempts - 1);
  if (attempts > 0 && nowMs < pausedUntilMs)
    return { type: 'wait', finding: notReady('HooksFailing', `it is tried again soon; last time: ${problems}`) };
  if (missing.length > 0) return { type: 'wait', finding: notReady('HookPodsMissing', missing.join('; ')) };
  return {
    type: 'write',
    hooks: { attempt: session.attempt, attempts: attempts + 1, started: [...targets], startedAt: now },
  };
}

/** What the snapshot is worth: what its record says, and more only if that names an attempt that held to the end. */
export function consistencyReached(
  view: Pick<SnapshotView, 'consistency' | 'hooks'>,
  session: HookSession | undefined,
): SnapshotStatus['consistency'] {
  const held = session?.state === 'Left' && session.covered && session.intact && view.hooks === session.attempt;
  return held ? 'application' : view.consistency;
}

/** How it stands with hooks that were run, as a condition; nothing while there is nothing to say. */
export function hooksFinding(status: SnapshotStatus): Finding[] {
  const { hooks, takenAt } = status;
  if (hooks?.endedAt === undefined || takenAt === undefined) return [];
  const problems = hooks.problems ?? [];
  const stated =
    problems.length === 0
      ? ({
          status: 'True',
          reason: 'Done',
          message: `applications were held for ${hooks.heldMilliseconds ?? 0} ms`,
        } as const)
      : ({ status: 'False', reason: 'HookFailed', message: problems.join('; ') } as const);
  return [{ type: 'HooksDone', ...stated }];
}
