import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { KubeConfig } from '@kubernetes/client-node';

export interface SeenRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

/** An HTTP server that answers what a test says, to whatever a client of the Kubernetes API asks. */
export class FakeApiServer {
  readonly seen: SeenRequest[] = [];
  /** How to answer; the test sets it. */
  answer: (request: SeenRequest, response: ServerResponse) => void = (_, response) => response.writeHead(500).end();
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<FakeApiServer> {
    const server = createServer();
    const fake = new FakeApiServer(server);
    server.on('request', (request, response) => {
      const pieces: Buffer[] = [];
      request.on('data', (piece: Buffer) => pieces.push(piece));
      request.on('end', () => {
        const url = new URL(request.url ?? '', 'http://fake');
        const body = Buffer.concat(pieces).toString();
        const seen = { method: request.method ?? '', url, headers: request.headers, body };
        fake.seen.push(seen);
        fake.answer(seen, response);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return fake;
  }

  kubeConfig(): KubeConfig {
    const { port } = this.#server.address() as AddressInfo;
    const config = new KubeConfig();
    config.loadFromOptions({
      clusters: [{ name: 'fake', server: `http://127.0.0.1:${port}/`, skipTLSVerify: true }],
      users: [{ name: 'operator', token: 'secret' }],
      contexts: [{ name: 'fake', cluster: 'fake', user: 'operator' }],
      currentContext: 'fake',
    });
    return config;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

export function sendJson(response: ServerResponse, value: object, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

/** As the API server explains failures. */
export function sendStatus(response: ServerResponse, code: number, reason: string, message: string): void {
  sendJson(response, { apiVersion: 'v1', kind: 'Status', status: 'Failure', code, reason, message }, code);
}
