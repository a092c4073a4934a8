import type { AgentAction, Outcome } from '../planning/actions.ts';
import type { MemberRequest } from '../planning/group-members.ts';
import type { GroupSession } from '../planning/plan-group.ts';
import type { AgentActions } from './agent-actions.ts';

/**
 * Holds the acknowledgements of all volumes of a group, sends all barriers, and lets go.
 *
 * Invariants:
 * - No barrier is sent before every hold has been answered, and no hold is ended before every barrier has been answered.
 * - Whatever fails, every volume that was asked to hold is told to let go; the agents do so by themselves at their deadline.
 * - An attempt without a problem is one whose every hold was unbroken until it was released.
 */
export class GroupSessions {
  readonly #actions: Pick<AgentActions, 'perform'>;
  readonly #newName: () => string;
  /** The last session of each group, by its uid. */
  readonly #sessions = new Map<string, GroupSession>();

  constructor(actions: Pick<AgentActions, 'perform'>, newName: () => string) {
    this.#actions = actions;
    this.#newName = newName;
  }

  /** There is always one that has not been used, once the last one stands in the status as ended. */
  sessionFor(
    uid: string,
    written: { readonly attempt?: string | undefined; readonly endedAt?: string | undefined } = {},
  ) {
    const known = this.#sessions.get(uid);
    if (known !== undefined && !(written.attempt === known.attempt && written.endedAt !== undefined)) return known;
    const named: GroupSession = { attempt: this.#newName(), state: 'Named' };
    this.#sessions.set(uid, named);
    return named;
  }

  forget(uid: string): void {
    this.#sessions.delete(uid);
  }

  async run(uid: string, attempt: string, requests: readonly MemberRequest[]): Promise<void> {
    const known = this.#sessions.get(uid);
    if (known?.attempt !== attempt || known.state !== 'Named') return;
    // Of two mirrors of one volume, that volume is held once.
    const volumes = [...new Map(requests.map(({ node, volume }) => [`${node}/${volume}`, { node, volume }])).values()];
    const held = await this.#all(volumes.map((at) => ({ type: 'hold-acknowledgements', ...at, attempt })));
    const refused = problemOf(held);
    const sent = refused === undefined ? await this.#all(requests.map((request) => barrier(request, attempt))) : [];
    const released = await this.#all(volumes.map((at) => ({ type: 'release-acknowledgements', ...at, attempt })));
    const problem = refused ?? problemOf(sent) ?? problemOf(released) ?? brokenHold(released);
    const heldMs = Math.max(0, ...released.map((outcome) => (outcome.ok ? (outcome.group?.heldMs ?? 0) : 0)));
    this.#sessions.set(uid, { attempt, state: 'Over', heldMs, problem });
  }

  #all(actions: readonly AgentAction[]): Promise<Outcome[]> {
    return Promise.all(actions.map((action) => this.#actions.perform(action)));
  }
}

function barrier({ node, volume, snapshot, mirror }: MemberRequest, attempt: string): AgentAction {
  const request = { group: attempt, ...(mirror === undefined ? {} : { mirror }) };
  return { type: 'put-snapshot', node, volume, snapshot, request };
}

function problemOf(outcomes: readonly Outcome[]): string | undefined {
  for (const outcome of outcomes) if (!outcome.ok) return `node ${outcome.action.node}: ${outcome.failure.message}`;
  return undefined;
}

function brokenHold(released: readonly Outcome[]): string | undefined {
  for (const outcome of released) {
    if (!outcome.ok || outcome.group?.state === 'Released') continue;
    const why = outcome.group?.reason ?? 'it is not known how they were held';
    return `node ${outcome.action.node}: acknowledgements were let go too early: ${why}`;
  }
  return undefined;
}
