import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { waitFor } from '../../support/wait-for.ts';

/**
 * QEMU's machine protocol: one JSON object per line, a greeting first, then commands and their answers in order, with
 * events in between (docs/interop/qmp-spec of QEMU).
 */
export class QmpClient {
  readonly #socket: Socket;
  #pending: { resolve: (value: unknown) => void; reject: (error: Error) => void }[] = [];
  #events: { event: string; data?: { device?: string; id?: string } }[] = [];

  private constructor(socket: Socket) {
    this.#socket = socket;
    createInterface({ input: socket }).on('line', (line) => this.#received(JSON.parse(line) as QmpMessage));
    socket.on('close', () => {
      for (const { reject } of this.#pending) reject(new Error('the QMP connection was closed'));
    });
    socket.on('error', () => {});
  }

  static async connect(path: string): Promise<QmpClient> {
    const client = new QmpClient(connect(path));
    await client.execute('qmp_capabilities');
    return client;
  }

  /** @throws Error with what QEMU says. */
  execute(command: string, parameters: object = {}): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#pending.push({ resolve, reject });
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: parameters })}\n`);
    return promise.catch((error: Error) => {
      throw new Error(`${command} ${JSON.stringify(parameters)}: ${error.message}`);
    });
  }

  /** Waits for an event about a job, past or to come; each is found once. */
  async jobEvent(event: string, job: string): Promise<void> {
    const isIt = (found: { event: string; data?: { device?: string; id?: string } }) =>
      found.event === event && (found.data?.device === job || found.data?.id === job);
    await waitFor(() => this.#events.some(isIt), { timeoutMs: 300_000, what: `${event} of job ${job}` });
    this.#events = this.#events.filter((found) => !isIt(found));
  }

  close(): void {
    this.#socket.destroy();
  }

  #received(message: QmpMessage): void {
    if ('event' in message) this.#events.push(message);
    else if ('return' in message) this.#pending.shift()?.resolve(message.return);
    else if ('error' in message) this.#pending.shift()?.reject(new Error(message.error.desc));
  }
}

type QmpMessage =
  | { readonly QMP: object }
  | { readonly event: string; readonly data?: { device?: string; id?: string } }
  | { readonly return: unknown }
  | { readonly error: { readonly desc: string } };
