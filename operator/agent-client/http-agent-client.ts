import type { Agent } from 'node:http';
import { z } from 'zod';
import type { HoldRequest } from '../../agent/api/contract/filling.ts';
import { type GroupHoldView, groupHoldViewSchema } from '../../agent/api/contract/groups.ts';
import { type NodeView, nodeViewSchema } from '../../agent/api/contract/node.ts';
import { problemSchema } from '../../agent/api/contract/problem.ts';
import type { RestoreRequestInput } from '../../agent/api/contract/restore.ts';
import { routePath, routes } from '../../agent/api/contract/routes.ts';
import type { SnapshotRequestInput } from '../../agent/api/contract/snapshots.ts';
import {
  type PrepareResult,
  prepareResultSchema,
  type SnapshotView,
  snapshotViewSchema,
  type VolumeSpecInput,
  type VolumeView,
  volumeViewSchema,
} from '../../agent/api/contract/volumes.ts';
import { type Clock, systemClock } from '../../common/clock.ts';
import { type ErrorCode, UnderstudyError } from '../../common/errors.ts';
import { formatPath, validate } from '../../common/validation.ts';
import type { AgentClient } from './agent-client.ts';
import { type AgentTls, connectionsTo, sendRequest } from './http-request.ts';

export interface HttpAgentOptions {
  /** For messages. */
  readonly node: string;
  /** Where the agent's API is, e.g. http://127.0.0.1:7071. */
  readonly url: string;
  /** For an https address: the certificates to show and to expect. */
  readonly tls?: AgentTls | undefined;
  readonly clock?: Clock;
  /** For an answer to a request that only reads. */
  readonly readTimeoutMs?: number;
  /** For an answer to one that changes something: reserving the space of a large volume takes time. */
  readonly writeTimeoutMs?: number;
}

const volumeListSchema = z.array(volumeViewSchema);

/** The agent of one node, over its HTTP API. */
export class HttpAgentClient implements AgentClient {
  readonly #node: string;
  readonly #url: string;
  readonly #clock: Clock;
  readonly #connections: Agent;
  readonly #readTimeoutMs: number;
  readonly #writeTimeoutMs: number;

  constructor(options: HttpAgentOptions) {
    this.#node = options.node;
    this.#url = options.url.replace(/\/+$/, '');
    this.#clock = options.clock ?? systemClock;
    this.#connections = connectionsTo(options.node, options.tls);
    this.#readTimeoutMs = options.readTimeoutMs ?? 5_000;
    this.#writeTimeoutMs = options.writeTimeoutMs ?? 60_000;
  }

  async getNode(): Promise<NodeView> {
    return this.#parse(nodeViewSchema, await this.#request('GET', routes.node));
  }

  async listVolumes(): Promise<VolumeView[]> {
    return this.#parse(volumeListSchema, await this.#request('GET', routes.volumes));
  }

  async getVolume(volume: string): Promise<VolumeView | undefined> {
    const answer = await this.#found(this.#request('GET', volumePath(volume)));
    return answer === undefined ? undefined : this.#parse(volumeViewSchema, answer);
  }

  async putVolume(volume: string, spec: VolumeSpecInput): Promise<VolumeView> {
    return this.#parse(volumeViewSchema, await this.#request('PUT', volumePath(volume), spec));
  }

  async deleteVolume(volume: string): Promise<void> {
    await this.#found(this.#request('DELETE', volumePath(volume)));
  }

  async prepare(volume: string, epoch: number): Promise<PrepareResult> {
    return this.#parse(
      prepareResultSchema,
      await this.#request('POST', routePath(routes.prepare, { volume }), { epoch }),
    );
  }

  async putRestore(volume: string, request: RestoreRequestInput): Promise<VolumeView> {
    return this.#parse(volumeViewSchema, await this.#request('PUT', routePath(routes.restore, { volume }), request));
  }

  async giveUpRestore(volume: string): Promise<void> {
    await this.#request('DELETE', routePath(routes.restore, { volume }));
  }

  async putSnapshot(volume: string, snapshot: string, request: SnapshotRequestInput): Promise<SnapshotView> {
    return this.#parse(snapshotViewSchema, await this.#request('PUT', snapshotPath(volume, snapshot), request));
  }

  async getSnapshot(volume: string, snapshot: string): Promise<SnapshotView | undefined> {
    const answer = await this.#found(this.#request('GET', snapshotPath(volume, snapshot)));
    return answer === undefined ? undefined : this.#parse(snapshotViewSchema, answer);
  }

  async holdAcknowledgements(volume: string, attempt: string): Promise<GroupHoldView> {
    const path = routePath(routes.group, { volume, attempt });
    return this.#parse(groupHoldViewSchema, await this.#request('PUT', path, {}));
  }

  async releaseAcknowledgements(volume: string, attempt: string): Promise<GroupHoldView> {
    const path = routePath(routes.group, { volume, attempt });
    return this.#parse(groupHoldViewSchema, await this.#request('DELETE', path));
  }

  async putHold(volume: string, snapshot: string, hold: string, request: HoldRequest): Promise<SnapshotView> {
    const path = routePath(routes.hold, { volume, snapshot, hold });
    return this.#parse(snapshotViewSchema, await this.#request('PUT', path, request));
  }

  async deleteHold(volume: string, snapshot: string, hold: string): Promise<void> {
    await this.#request('DELETE', routePath(routes.hold, { volume, snapshot, hold }));
  }

  async deleteSnapshot(volume: string, snapshot: string): Promise<void> {
    await this.#found(this.#request('DELETE', snapshotPath(volume, snapshot)));
  }

  async #found(answer: Promise<unknown>): Promise<unknown> {
    try {
      return await answer;
    } catch (error) {
      if (error instanceof UnderstudyError && error.code === 'NotFound') return undefined;
      throw error;
    }
  }

  async #request(method: 'GET' | 'PUT' | 'POST' | 'DELETE', path: string, body?: object): Promise<unknown> {
    const timeoutMs = method === 'GET' ? this.#readTimeoutMs : this.#writeTimeoutMs;
    const giveUp = new AbortController();
    const timer = this.#clock.after(timeoutMs, () => giveUp.abort());
    try {
      const url = this.#url + path;
      const request = { url, method, signal: giveUp.signal, agent: this.#connections };
      const { status, text } = await sendRequest(body === undefined ? request : { ...request, body });
      if (status < 200 || status > 299) throw this.#problem(status, text);
      return text === '' ? null : this.#json(text);
    } catch (cause) {
      if (cause instanceof UnderstudyError) throw cause;
      throw giveUp.signal.aborted
        ? new UnderstudyError(
            'Timeout',
            `the agent of ${this.#node} did not answer within ${timeoutMs} ms`,
            this.#labels(),
          )
        : new UnderstudyError('Unavailable', `the agent of ${this.#node} at ${this.#url} cannot be reached`, {
            ...this.#labels(),
            cause,
          });
    } finally {
      timer.cancel();
    }
  }

  #problem(status: number, text: string): UnderstudyError {
    const labels = { ...this.#labels().labels, status };
    const problem = validate(problemSchema, safeJson(text));
    if (!problem.ok) {
      const code = status === 404 ? 'Protocol' : 'Unavailable';
      return new UnderstudyError(code, `the agent of ${this.#node} answered ${status} without saying why`, { labels });
    }
    const wrong = (problem.value.errors ?? []).map(({ path, message }) => `${path}: ${message}`);
    return new UnderstudyError(knownCode(problem.value.code), [problem.value.detail, ...wrong].join('; '), { labels });
  }

  #parse<Schema extends z.ZodType>(schema: Schema, answer: unknown): z.output<Schema> {
    const result = validate(schema, answer);
    if (result.ok) return result.value;
    const [first] = result.violations;
    const what = first === undefined ? '' : `: ${formatPath(first.path)}: ${first.message}`;
    throw new UnderstudyError(
      'Protocol',
      `the agent of ${this.#node} gave an answer of another shape${what}`,
      this.#labels(),
    );
  }

  #json(text: string): unknown {
    const value = safeJson(text);
    if (value !== undefined) return value;
    throw new UnderstudyError('Protocol', `the agent of ${this.#node} gave an answer that is no JSON`, this.#labels());
  }

  #labels() {
    return { labels: { node: this.#node } };
  }
}

const codes: readonly string[] = [
  'Invalid',
  'NotFound',
  'AlreadyExists',
  'Conflict',
  'NotReady',
  'InUse',
  'NoSpace',
  'Fenced',
  'Io',
  'Corrupt',
  'Protocol',
  'Timeout',
  'Unavailable',
  'ReadOnly',
  'Closed',
  'Internal',
] satisfies ErrorCode[];

/** A newer agent may know codes that this operator does not. */
function knownCode(code: string): ErrorCode {
  return codes.includes(code) ? (code as ErrorCode) : 'Internal';
}

function safeJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function volumePath(volume: string): string {
  return routePath(routes.volume, { volume });
}

function snapshotPath(volume: string, snapshot: string): string {
  return routePath(routes.snapshot, { volume, snapshot });
}
