import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { routes } from '../../agent/api/contract/routes.ts';
import { UnderstudyError } from '../../common/errors.ts';
import type { AgentClient, AgentDirectory } from '../../operator/agent-client/agent-client.ts';

type Parameters = Readonly<Record<string, string>>;
type Handler = (agent: AgentClient, parameters: Parameters, body: never) => Promise<unknown>;

/** What the operator asks agents for when it keeps volumes and snapshots. */
const handlers: readonly (readonly [method: string, route: string, handler: Handler])[] = [
  ['GET', routes.node, (agent) => agent.getNode()],
  ['GET', routes.volumes, (agent) => agent.listVolumes()],
  ['GET', routes.volume, (agent, { volume = '' }) => agent.getVolume(volume)],
  ['PUT', routes.volume, (agent, { volume = '' }, body) => agent.putVolume(volume, body)],
  ['DELETE', routes.volume, (agent, { volume = '' }) => agent.deleteVolume(volume)],
  ['GET', routes.snapshot, (agent, { volume = '', snapshot = '' }) => agent.getSnapshot(volume, snapshot)],
  ['PUT', routes.snapshot, (agent, { volume = '', snapshot = '' }, body) => agent.putSnapshot(volume, snapshot, body)],
  ['DELETE', routes.snapshot, (agent, { volume = '', snapshot = '' }) => agent.deleteSnapshot(volume, snapshot)],
];

/** Simulated agents over HTTP, each below its node's name: every answer takes `delayMs`, and is counted. */
export class ServedAgents {
  requests = 0;
  readonly #directory: AgentDirectory;
  readonly #delayMs: number;
  readonly #server: Server;

  private constructor(directory: AgentDirectory, delayMs: number, server: Server) {
    this.#directory = directory;
    this.#delayMs = delayMs;
    this.#server = server;
    server.on('request', (request, response) => void this.#serve(request, response));
  }

  static async start(directory: AgentDirectory, delayMs: number): Promise<ServedAgents> {
    const server = createServer();
    const started = new ServedAgents(directory, delayMs, server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return started;
  }

  /** As the configuration of an operator has them. */
  addresses(): { node: string; apiAddress: string; mirrorAddress: string }[] {
    const { port } = this.#server.address() as AddressInfo;
    return this.#directory.entries().map(({ node, mirrorAddress = '127.0.0.1:1' }) => {
      return { node, apiAddress: `127.0.0.1:${port}/${node}`, mirrorAddress };
    });
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.requests += 1;
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece);
    await sleep(this.#delayMs);
    try {
      const answer = await this.#answer(request, Buffer.concat(pieces).toString());
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer ?? null));
    } catch (error) {
      if (!(error instanceof UnderstudyError)) throw error;
      const status = error.code === 'NotFound' ? 404 : 409;
      const problem = { type: 'about:blank', title: error.code, status, detail: error.message, code: error.code };
      response.writeHead(status, { 'content-type': 'application/problem+json' }).end(JSON.stringify(problem));
    }
  }

  async #answer({ method, url = '' }: IncomingMessage, text: string): Promise<unknown> {
    const [, node = '', ...rest] = url.split('/');
    const path = rest.map(decodeURIComponent);
    for (const [verb, route, handle] of handlers) {
      const parameters = verb === method ? parametersOf(route, path) : undefined;
      const agent = this.#directory.find(node)?.client;
      if (parameters === undefined || agent === undefined) continue;
      const answer = await handle(agent, parameters, (text === '' ? {} : JSON.parse(text)) as never);
      if (answer === undefined && method === 'GET') throw new UnderstudyError('NotFound', `${url} is not there`);
      return answer;
    }
    throw new UnderstudyError('NotFound', `${method} ${url} is not served`);
  }
}

/** The parameters of a path, if the route is the one for it. */
function parametersOf(route: string, path: readonly string[]): Parameters | undefined {
  const parts = route.slice(1).split('/');
  if (parts.length !== path.length) return undefined;
  const fits = parts.every((part, index) => part.startsWith(':') || part === path[index]);
  if (!fits) return undefined;
  return Object.fromEntries(
    parts.flatMap((part, index) => (part.startsWith(':') ? [[part.slice(1), path[index] ?? '']] : [])),
  );
}
