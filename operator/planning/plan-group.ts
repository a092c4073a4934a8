import { type Finding, findCondition, isConditionTrue, setConditions } from '../resources/conditions.ts';
import type { NewObject } from '../resources/kube-object.ts';
import type { Snapshot } from '../resources/snapshot.ts';
import {
  type GroupMember,
  type SnapshotGroup,
  type SnapshotGroupSpec,
  type SnapshotGroupStatus,
  snapshotGroups,
} from '../resources/snapshot-group.ts';
import { acceptedPart, describeViolations, validateSpec } from '../resources/validate-spec.ts';
import { listNames, notReady } from './findings.ts';
import { groupBrokenReason } from './given-up.ts';
import {
  chooseMembers,
  type GroupSources,
  isOfAttempt,
  type MemberRequest,
  newMember,
  requestsOf,
} from './group-members.ts';
import { isDeleting, isHeld, type ObjectPlan } from './object-plan.ts';

/** After so many attempts it is given up: applications do not wait again and again in vain. */
const maxAttempts = 5;
const firstPauseMs = 2_000;

/** What this process knows of an attempt of its own. */
export interface GroupSession {
  readonly attempt: string;
  /** Named: nothing was asked of the agents. Over: they have been told to let acknowledgements go. */
  readonly state: 'Named' | 'Over';
  readonly heldMs?: number | undefined;
  /** Why it is void. */
  readonly problem?: string | undefined;
}

export interface GroupWorld {
  /** RFC 3339. */
  readonly now: string;
  readonly nowMs: number;
  readonly group: SnapshotGroup;
  /** The Snapshots that have its uid in their label. */
  readonly own: readonly Snapshot[];
  /** The names of the other Snapshots of its namespace. */
  readonly strangers: ReadonlySet<string>;
  readonly sources: GroupSources;
  readonly session: GroupSession;
}

export interface GroupPlan extends ObjectPlan<SnapshotGroupStatus> {
  readonly make: readonly NewObject<Snapshot>[];
  readonly remove: readonly Snapshot[];
  /** Hold, send all barriers, let go: to be done once the status is written. */
  readonly run?: { readonly attempt: string; readonly requests: readonly MemberRequest[] } | undefined;
  readonly settled: boolean;
  /** When to look again at the latest, in milliseconds since 1970. */
  readonly nextMs?: number | undefined;
}

/**
 * Plans one group. What always holds:
 *
 * - An attempt is in the status, open (without `endedAt`), before anything is asked of an agent, and is run at most once, by
 *   the process that has named it. One that is open and unknown was begun by a process that is gone: it is void.
 * - A member is taken only with a barrier that was sent while all acknowledgements were held for its attempt.
 * - Of an attempt that is void every Snapshot is deleted, and gone, before the next one begins.
 * - The group is Ready only while all its members are; once `takenAt` is there, it is never tried again.
 */
export function planGroup(world: GroupWorld): GroupPlan {
  const { group } = world;
  const status = group.status ?? {};
  if (isDeleting(group)) return planDeletion(world);
  const spec = validateSpec(snapshotGroups, group.spec, status.accepted);
  if (!spec.ok) return live(world, status, notReady('Invalid', describeViolations(spec.violations)));
  if (!isHeld(group)) return live(world, status, notReady('Pending', 'its Snapshots are being made'));
  if (status.takenAt !== undefined) return planKept(world, status);
  if (status.members === undefined) return planMembers(world, spec.value);
  return status.problem === undefined
    ? planAttempt(world, spec.value, status, status.members)
    : planVoid(world, status, status.problem);
}

function planMembers(world: GroupWorld, spec: SnapshotGroupSpec): GroupPlan {
  const chosen = chooseMembers(world.group, spec, world.sources);
  if (!chosen.ok) return live(world, {}, notReady(chosen.reason, chosen.message));
  const members = [...chosen.members];
  const status = { members, count: members.length, attempts: 1, accepted: acceptedPart(snapshotGroups, spec) };
  return live(world, status, notReady('Pending', 'its Snapshots are being made'));
}

function planAttempt(
  world: GroupWorld,
  spec: SnapshotGroupSpec,
  status: SnapshotGroupStatus,
  members: readonly GroupMember[],
): GroupPlan {
  const { attempts = 1 } = status;
  const own = world.own.filter((snapshot) => isOfAttempt(snapshot, attempts));
  const left = own.find(isDeleting);
  if (left !== undefined) return broken(world, status, `Snapshot ${left.metadata.name} was deleted`);
  const missing = members.filter(({ snapshot }) => !own.some(({ metadata }) => metadata.name === snapshot));
  if (missing.length > 0) {
    const [first] = missing;
    if (status.startedAt !== undefined) return broken(world, status, `Snapshot ${first?.snapshot} was deleted`);
    const taken = missing.find(({ snapshot }) => world.strangers.has(snapshot));
    if (taken !== undefined) {
      const message = `there is a Snapshot ${taken.snapshot} that this group has not made; delete it, or name the group otherwise`;
      return live(world, status, notReady('NameTaken', message));
    }
    const make = missing.map((member) => newMember(world.group, spec, member, attempts));
    return { ...live(world, status, notReady('Pending', 'its Snapshots are being made')), make };
  }
  return status.endedAt === undefined ? planBarriers(world, status, members, own) : planSettling(world, status, own);
}

/** Up to the end of the hold. */
function planBarriers(
  world: GroupWorld,
  status: SnapshotGroupStatus,
  members: readonly GroupMember[],
  own: readonly Snapshot[],
): GroupPlan {
  const { session, now, sources } = world;
  const isOpen = status.startedAt !== undefined;
  if (isOpen && status.attempt !== session.attempt)
    return broken(world, status, 'the operator was restarted while acknowledgements were held');
  if (isOpen && session.state === 'Over') {
    const heldMilliseconds = session.heldMs === undefined ? {} : { heldMilliseconds: Math.ceil(session.heldMs) };
    const ended = { ...status, ...heldMilliseconds };
    if (session.problem !== undefined) return broken(world, ended, session.problem);
    return live(world, { ...ended, endedAt: now }, notReady('Pending', 'its barriers are on their way'));
  }
  const requests = requestsOf(members, own, sources);
  if (!requests.ok) return live(world, status, notReady('Pending', requests.message));
  const unfit = sources.mirrors.filter(
    (mirror) => members.some((member) => member.mirror === mirror.metadata.name) && !isFit(mirror),
  );
  if (!isOpen && unfit.length > 0) {
    const names = listNames(unfit.map(({ metadata }) => metadata.name));
    return live(world, status, notReady('MirrorNotInSync', `not in sync: ${names}; it is begun when they are`));
  }
  const { attempt } = session;
  const pending = notReady('Pending', 'its snapshots are being taken');
  const open = isOpen ? status : { ...status, attempt, startedAt: now };
  return { ...live(world, open, pending), ...(isOpen ? { run: { attempt, requests: requests.requests } } : {}) };
}

/** A mirror that would only refuse is no reason to hold anything. An asynchronous one is never InSync. */
function isFit({ spec, status }: GroupSources['mirrors'][number]): boolean {
  return spec.mode === 'Asynchronous' || isConditionTrue(status?.conditions, 'InSync');
}

/** The barriers are sent, and nothing was let go before: now each snapshot is there, or the attempt is void. */
function planSettling(world: GroupWorld, status: SnapshotGroupStatus, own: readonly Snapshot[]): GroupPlan {
  for (const snapshot of own) {
    const said = findCondition(snapshot.status?.conditions, 'Ready');
    if (said?.reason === groupBrokenReason)
      return broken(world, status, `Snapshot ${snapshot.metadata.name}: ${said.message}`);
  }
  const taken = own.flatMap((snapshot) => snapshot.status?.takenAt ?? []).sort();
  if (taken.length < own.length) return live(world, status, unready(own));
  return planKept(world, { ...status, takenAt: taken.at(-1) });
}

/** Once taken it is only looked after. */
function planKept(world: GroupWorld, status: SnapshotGroupStatus): GroupPlan {
  const { members = [], heldMilliseconds } = status;
  const own = world.own.filter((snapshot) => !isDeleting(snapshot));
  const lost = members.filter(({ snapshot }) => !own.some(({ metadata }) => metadata.name === snapshot));
  if (lost.length > 0) {
    const names = listNames(lost.map(({ snapshot }) => snapshot));
    return live(world, status, notReady('MemberDeleted', `it is not complete any more: ${names} was deleted`));
  }
  if (own.some((snapshot) => !isConditionTrue(snapshot.status?.conditions, 'Ready')))
    return live(world, status, unready(own));
  const message = `all of its snapshots can be read; writes were not acknowledged for ${heldMilliseconds ?? 0} ms`;
  return { ...live(world, status, { type: 'Ready', status: 'True', reason: 'Taken', message }), settled: true };
}

function unready(own: readonly Snapshot[]): Finding {
  const problems = own.flatMap(({ metadata, status }) => {
    const said = findCondition(status?.conditions, 'Ready');
    return said?.status === 'True' ? [] : [`${metadata.name}: ${said?.message ?? 'it is being taken'}`];
  });
  return notReady('MembersNotReady', listNames(problems));
}

/** The attempt is void: that is written down first, then its Snapshots are deleted. */
function broken(world: GroupWorld, status: SnapshotGroupStatus, problem: string): GroupPlan {
  return planVoid(world, { ...status, problem, endedAt: status.endedAt ?? world.now }, problem);
}

function planVoid(world: GroupWorld, status: SnapshotGroupStatus, problem: string): GroupPlan {
  const { own, nowMs, group } = world;
  const { attempts = 1 } = status;
  if (group.status?.problem === undefined) return live(world, status, notReady('Retrying', problem));
  if (own.length > 0) {
    const remove = own.filter((snapshot) => !isDeleting(snapshot));
    return { ...live(world, status, notReady('Retrying', `its snapshots are being deleted: ${problem}`)), remove };
  }
  if (attempts >= maxAttempts) {
    const message = `given up after ${attempts} attempts: ${problem}; mend that, and make another SnapshotGroup`;
    return { ...live(world, status, notReady('GivenUp', message)), settled: true };
  }
  const nextMs = Date.parse(status.endedAt ?? world.now) + firstPauseMs * 2 ** (attempts - 1);
  if (nowMs < nextMs) {
    return { ...live(world, status, notReady('Retrying', `it is tried again soon; last time: ${problem}`)), nextMs };
  }
  const { members, count, accepted } = status;
  const next = { members, count, accepted, attempts: attempts + 1 };
  return live(world, next, notReady('Pending', `its Snapshots are being made again; last time: ${problem}`));
}

/** Its Snapshots go first. */
function planDeletion(world: GroupWorld): GroupPlan {
  const { group, own } = world;
  const plan = live(world, group.status ?? {}, notReady('Deleting', 'its Snapshots are being deleted'));
  const remove = own.filter((snapshot) => !isDeleting(snapshot));
  const isGone = own.length === 0 && isHeld(group);
  return { ...plan, remove, finalizer: isGone ? 'release' : 'keep' };
}

function live({ group, now }: GroupWorld, status: SnapshotGroupStatus, finding: Finding): GroupPlan {
  const { generation } = group.metadata;
  return {
    status: {
      ...status,
      ...(generation === undefined ? {} : { observedGeneration: generation }),
      conditions: setConditions(group.status?.conditions, [finding], { now, generation }),
    },
    finalizer: isDeleting(group) || isHeld(group) ? 'keep' : 'hold',
    make: [],
    remove: [],
    settled: false,
  };
}
