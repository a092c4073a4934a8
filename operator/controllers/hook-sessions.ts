import { type Clock, delay } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import type { RunningCommand } from '../kube/pod-exec.ts';
import type { HookAction, HookFacts, HookSession } from '../planning/plan-hooks.ts';
import { parseDurationMs } from '../resources/duration.ts';
import type { Snapshot } from '../resources/snapshot.ts';
import type { PostHook, PreHook, SnapshotHooks } from '../resources/snapshot-hooks.ts';
import { endHold, findTargets, type HookTarget, runToEnd, startHold } from './hook-commands.ts';

const postTries = 3;
const postPauseMs = 1_000;

interface Hold {
  readonly target: HookTarget<PreHook>;
  readonly command: RunningCommand;
  hasEnded: boolean;
}

/** An attempt as it runs here. What of it outlives this process stands in the Snapshot's status. */
interface Session extends HookSession {
  state: HookSession['state'];
  intact: boolean;
  expired: boolean;
  covered: boolean;
  heldMs?: number;
  readonly problems: string[];
  readonly holds: Hold[];
  sinceMs?: number;
}

/**
 * Runs the hooks of snapshots, and holds the commands that go on until the barrier.
 *
 * Invariants:
 * - At most one session per Snapshot, by its uid; an attempt is entered at most once.
 * - At the deadline every hold is told to end, whatever else waits.
 * - When this process ends, or stops leading, its connections end, and so do the standard inputs of what it holds.
 */
export class HookSessions {
  readonly #api: KubeApi;
  readonly #clock: Clock;
  readonly #newName: () => string;
  readonly #log: Log;
  readonly #sessions = new Map<string, Session>();

  constructor(parts: { api: KubeApi; clock: Clock; newName: () => string; log: Log }) {
    this.#api = parts.api;
    this.#clock = parts.clock;
    this.#newName = parts.newName;
    this.#log = parts.log;
  }

  /** What a plan has to know. There is always a session of a name that has not been used, once the last one is over. */
  async facts({ metadata, status }: Snapshot, { pre }: SnapshotHooks): Promise<HookFacts> {
    const session = this.#sessionFor(metadata.uid, status?.hooks);
    if (session.state !== 'Named' || status?.hooks?.attempt === session.attempt)
      return { session: { ...session }, targets: [], missing: [] };
    const { found, missing } = await findTargets(this.#api, metadata.namespace ?? '', 'pre', pre);
    const fatal = missing.filter(({ hook }) => hook.onError === 'Fail');
    return {
      session: { ...session },
      targets: found.map(({ name }) => name),
      missing: fatal.map(({ problem }) => problem),
    };
  }

  async perform(snapshot: Snapshot, hooks: SnapshotHooks, action: HookAction): Promise<void> {
    const { uid, namespace = '' } = snapshot.metadata;
    if (action.do === 'leave') return await this.#leave(uid, namespace, hooks, action);
    const session = this.#sessions.get(uid);
    if (session?.attempt !== action.attempt || session.state !== 'Named') return;
    await this.#enter(session, namespace, hooks);
  }

  /** Forgets the session of a Snapshot that needs none any more: no attempt is open. */
  forgetOver({ metadata, status }: Snapshot): void {
    if (status?.takenAt !== undefined || metadata.deletionTimestamp !== undefined) this.#sessions.delete(metadata.uid);
  }

  stop(): void {
    for (const { holds } of this.#sessions.values()) for (const { command } of holds) command.leave();
    this.#sessions.clear();
  }

  #sessionFor(uid: string, written: { readonly attempt: string; readonly endedAt?: string | undefined } | undefined) {
    const known = this.#sessions.get(uid);
    const isOver = known !== undefined && written?.attempt === known.attempt && written.endedAt !== undefined;
    if (known !== undefined && !isOver) return known;
    const named = this.#newSession(this.#newName());
    this.#sessions.set(uid, named);
    return named;
  }

  #newSession(attempt: string): Session {
    return { attempt, state: 'Named', intact: false, expired: false, covered: false, problems: [], holds: [] };
  }

  async #enter(session: Session, namespace: string, { pre, deadline }: SnapshotHooks): Promise<void> {
    session.sinceMs = this.#clock.monotonicMs();
    session.intact = true;
    this.#clock.after(parseDurationMs(deadline), () => this.#expire(session));
    const { found, missing } = await findTargets(this.#api, namespace, 'pre', pre);
    for (const { hook, problem } of missing) this.#failed(session, hook, problem);
    for (const target of found) {
      if (session.state === 'Refused' || session.expired) break;
      await this.#start(session, target).catch((error: unknown) =>
        this.#failed(session, target.hook, errorMessage(error)),
      );
    }
    if (session.state === 'Named') session.state = 'Held';
  }

  async #start(session: Session, target: HookTarget<PreHook>): Promise<void> {
    if (target.hook.hold === undefined) return await runToEnd(this.#api, this.#clock, target);
    const command = await startHold(this.#api, this.#clock, target);
    const hold: Hold = { target, command, hasEnded: false };
    session.holds.push(hold);
    const end = () => {
      hold.hasEnded = true;
    };
    command.ended.then(end, end);
    if (session.expired) command.tellToEnd();
  }

  #failed(session: Session, { onError }: PreHook, problem: string): void {
    session.intact = false;
    session.problems.push(problem);
    if (onError === 'Fail') session.state = 'Refused';
  }

  #expire(session: Session): void {
    if (session.state === 'Left') return;
    session.expired = true;
    session.intact = false;
    for (const { command } of session.holds) command.tellToEnd();
  }

  async #leave(
    uid: string,
    namespace: string,
    { post }: SnapshotHooks,
    action: Extract<HookAction, { do: 'leave' }>,
  ): Promise<void> {
    const session = this.#sessionOf(uid, action.attempt);
    if (session.state === 'Left') return;
    if (action.problem !== undefined) session.problems.push(action.problem);
    session.covered = action.covered;
    for (const hold of session.holds.reverse()) await this.#endHold(session, hold);
    await this.#runPost(session, namespace, post);
    session.heldMs =
      session.sinceMs === undefined
        ? Math.max(0, this.#clock.wallTimeMs() - Date.parse(action.startedAt))
        : this.#clock.monotonicMs() - session.sinceMs;
    session.state = 'Left';
    const { attempt, heldMs, intact, problems } = session;
    this.#log.info({ snapshot: uid, attempt, heldMs, intact, problems }, 'applications are not held any more');
  }

  /** That of this process; or an empty one, for an attempt of a process that is gone. */
  #sessionOf(uid: string, attempt: string): Session {
    const known = this.#sessions.get(uid);
    if (known?.attempt === attempt) return known;
    const session = this.#newSession(attempt);
    this.#sessions.set(uid, session);
    return session;
  }

  async #endHold(session: Session, { target, command, hasEnded }: Hold): Promise<void> {
    if (hasEnded && !session.expired) {
      session.intact = false;
      session.problems.push(`${target.name} ended before it was told to`);
    }
    try {
      await endHold(this.#clock, command, target);
    } catch (error) {
      session.intact = false;
      session.problems.push(errorMessage(error));
    }
  }

  async #runPost(session: Session, namespace: string, post: readonly PostHook[]): Promise<void> {
    const targets = await this.#tried(session, postTries, () => findTargets(this.#api, namespace, 'post', post));
    for (const { problem } of targets?.missing ?? []) session.problems.push(problem);
    for (const target of targets?.found ?? []) {
      const tries = target.hook.onError === 'Fail' ? postTries : 1;
      await this.#tried(session, tries, () => runToEnd(this.#api, this.#clock, target));
    }
  }

  /** The result of the first try that succeeds; else the last failure is one of the session's problems. */
  async #tried<Result>(session: Session, tries: number, run: () => Promise<Result>): Promise<Result | undefined> {
    for (let left = tries; ; left -= 1) {
      try {
        return await run();
      } catch (error) {
        if (left <= 1) {
          session.problems.push(errorMessage(error));
          return undefined;
        }
        await delay(this.#clock, postPauseMs);
      }
    }
  }
}
