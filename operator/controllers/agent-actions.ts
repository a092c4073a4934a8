import { isDeepStrictEqual } from 'node:util';
import type { GroupHoldView } from '../../agent/api/contract/groups.ts';
import type { PrepareResult, SnapshotView } from '../../agent/api/contract/volumes.ts';
import { errorCode, errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { AgentClient, AgentDirectory } from '../agent-client/agent-client.ts';
import {
  type AgentAction,
  actionKey,
  type Failure,
  type Observation,
  type Outcome,
  type Outcomes,
  observationKey,
} from '../planning/actions.ts';
import type { HeldSnapshot } from '../planning/snapshot-world.ts';
import type { OperatorMetrics } from './metrics.ts';

/** Does what planners decided, and looks for them. */
export class AgentActions {
  readonly #directory: AgentDirectory;
  readonly #log: Log;
  readonly #metrics: OperatorMetrics;

  constructor(directory: AgentDirectory, log: Log, metrics: OperatorMetrics) {
    this.#directory = directory;
    this.#log = log;
    this.#metrics = metrics;
  }

  /** Does one action. A failure is an outcome; only what is a defect of ours is thrown. */
  async perform(action: AgentAction): Promise<Outcome> {
    const { type, node, volume } = action;
    try {
      const client = this.#client(node);
      this.#log.debug({ node, volume }, `${type} begins`);
      const answer = await send(client, action);
      this.#log.info({ node, volume, ...('snapshot' in action ? { snapshot: action.snapshot } : {}) }, `${type} done`);
      this.#metrics.acted(type, 'done');
      return { ok: true, action, ...answer };
    } catch (error) {
      if (!(error instanceof UnderstudyError)) throw error;
      this.#log.warn({ node, volume, error: errorMessage(error) }, `${type} failed`);
      this.#metrics.acted(type, 'failed');
      return { ok: false, action, failure: toFailure(error) };
    }
  }

  /**
   * Agents that do not answer are added to `silent`, and whoever is in it is not asked: a promotion is several looks one after
   * the other, and each would wait until the agent of the node that is gone has not answered again.
   */
  async observeAll(
    copies: readonly { readonly node: string; readonly volume: string }[],
    silent: Map<string, Observation>,
  ): Promise<ReadonlyMap<string, Observation>> {
    const seen = copies.map(async ({ node, volume }) => {
      const observation = silent.get(node) ?? (await this.observe(node, volume));
      if (observation.kind === 'unreachable') silent.set(node, observation);
      return [observationKey(node, volume), observation] as const;
    });
    return new Map(await Promise.all(seen));
  }

  async observe(node: string, volume: string): Promise<Observation> {
    return await this.#look(node, async (client) => {
      const view = await client.getVolume(volume);
      return view === undefined ? ({ kind: 'absent' } as const) : ({ kind: 'present', view } as const);
    });
  }

  async observeSnapshot(node: string, volume: string, snapshot: string): Promise<HeldSnapshot> {
    return await this.#look(node, async (client) => {
      const view = await client.getSnapshot(volume, snapshot);
      return view === undefined ? ({ kind: 'absent' } as const) : ({ kind: 'present', view } as const);
    });
  }

  /** Whether an agent answers at all. */
  async ping(node: string) {
    return await this.#look(node, async (client) => {
      await client.listVolumes();
      return { kind: 'answers' } as const;
    });
  }

  async #look<Seen>(node: string, look: (client: AgentClient) => Promise<Seen>) {
    const entry = this.#directory.find(node);
    if (entry === undefined) return { kind: 'no-agent' } as const;
    try {
      return await look(entry.client);
    } catch (error) {
      if (!(error instanceof UnderstudyError)) throw error;
      return { kind: 'unreachable', message: errorMessage(error) } as const;
    }
  }

  #client(node: string): AgentClient {
    const entry = this.#directory.find(node);
    if (entry !== undefined) return entry.client;
    throw new UnderstudyError('Unavailable', `no agent is configured for node ${node}`);
  }
}

/** An agent that answered has given its status; what did not get there has none. */
function toFailure(error: UnderstudyError): Failure {
  return { code: errorCode(error), message: errorMessage(error), answered: error.labels.status !== undefined };
}

async function send(
  client: AgentClient,
  action: AgentAction,
): Promise<{ readonly snapshot?: SnapshotView; readonly prepared?: PrepareResult; readonly group?: GroupHoldView }> {
  switch (action.type) {
    case 'put-volume':
      await client.putVolume(action.volume, action.spec);
      return {};
    case 'delete-volume':
      await client.deleteVolume(action.volume);
      return {};
    case 'prepare-volume':
      return { prepared: await client.prepare(action.volume, action.epoch) };
    case 'put-snapshot':
      return { snapshot: await client.putSnapshot(action.volume, action.snapshot, action.request) };
    case 'put-restore':
      await client.putRestore(action.volume, action.request);
      return {};
    case 'give-up-restore':
      await client.giveUpRestore(action.volume);
      return {};
    case 'put-hold':
      await client.putHold(action.volume, action.snapshot, action.hold, { node: action.reader });
      return {};
    case 'delete-hold':
      await client.deleteHold(action.volume, action.snapshot, action.hold);
      return {};
    case 'hold-acknowledgements':
      return { group: await client.holdAcknowledgements(action.volume, action.attempt) };
    case 'release-acknowledgements':
      return { group: await client.releaseAcknowledgements(action.volume, action.attempt) };
    case 'delete-snapshot':
      await client.deleteSnapshot(action.volume, action.snapshot);
      return {};
  }
}

/** The actions that have not been done, as they are, in this reconciliation already. */
export function notDoneYet(actions: readonly AgentAction[], outcomes: Outcomes): AgentAction[] {
  return actions.filter((action) => !isDeepStrictEqual(outcomes.get(actionKey(action))?.action, action));
}

export function anyFailed(outcomes: Outcomes): boolean {
  for (const outcome of outcomes.values()) if (!outcome.ok) return true;
  return false;
}

export function recordOutcome(outcomes: Map<string, Outcome>, outcome: Outcome): void {
  outcomes.set(actionKey(outcome.action), outcome);
}
