import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { UnderstudyError } from '../../common/errors.ts';
import type { KubeApi } from '../../operator/kube/kube-api.ts';
import { primaryVolumes } from '../../operator/resources/primary-volume.ts';

/**
 * As much of an API in memory over HTTP as agents need: one PrimaryVolume is read, and its status patched. Anybody on this
 * machine may do both.
 */
export class KubeApiServer {
  readonly #server: Server;
  readonly #api: KubeApi;
  /** What a test makes go wrong: called before a request is carried out, and before its answer is sent. */
  disturb: (when: 'before' | 'after', request: IncomingMessage) => 'pass' | 'hang' | 'cut' = () => 'pass';

  private constructor(server: Server, api: KubeApi) {
    this.#server = server;
    this.#api = api;
    server.on('request', (request, response) => void this.#serve(request, response));
  }

  static async start(api: KubeApi): Promise<KubeApiServer> {
    const server = createServer();
    const started = new KubeApiServer(server, api);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return started;
  }

  /** The text of a kubeconfig for it. */
  kubeconfig(): string {
    const { port } = this.#server.address() as AddressInfo;
    return JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'memory', cluster: { server: `http://127.0.0.1:${port}` } }],
      users: [{ name: 'agent', user: { token: 'none' } }],
      contexts: [{ name: 'memory', context: { cluster: 'memory', user: 'agent' } }],
      'current-context': 'memory',
    });
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece);
    if (this.#disturbed('before', request)) return;
    const { status, body } = await this.#answer(request, Buffer.concat(pieces).toString());
    if (this.#disturbed('after', request)) return;
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  }

  #disturbed(when: 'before' | 'after', request: IncomingMessage): boolean {
    const what = this.disturb(when, request);
    if (what === 'cut') request.socket.destroy();
    return what !== 'pass';
  }

  async #answer({ method, url = '' }: IncomingMessage, text: string): Promise<{ status: number; body: object }> {
    const found = /^\/apis\/understudy\.dev\/v1alpha1\/namespaces\/([^/]+)\/primaryvolumes\/([^/]+)(\/status)?$/.exec(
      url,
    );
    if (!found) return { status: 404, body: { message: `not served here: ${url}` } };
    const key = { namespace: decodeURIComponent(found[1] ?? ''), name: decodeURIComponent(found[2] ?? '') };
    try {
      if (method === 'GET') {
        const object = await this.#api.get(primaryVolumes, key);
        return object ? { status: 200, body: object } : { status: 404, body: { message: `no ${key.name}` } };
      }
      if (method !== 'PATCH' || found[3] === undefined) return { status: 405, body: { message: `no ${method}` } };
      const patched = await this.#api.patch(primaryVolumes, key, JSON.parse(text), { subresource: 'status' });
      return { status: 200, body: patched };
    } catch (error) {
      if (!(error instanceof UnderstudyError)) throw error;
      return { status: Number(error.labels.status ?? 500), body: { message: error.message } };
    }
  }
}
