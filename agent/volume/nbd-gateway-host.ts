import { Worker } from 'node:worker_threads';
import type { Clock } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import { fromPortable, type LinkTls } from './engine-calls.ts';
import type { GatewayMessage, GatewayOrder, GatewayThreadData } from './nbd-gateway-worker.ts';

const restartMs = 1_000;

/** The main thread's handle on the thread of the NBD port. A thread that dies is replaced; its clients connect anew. */
export class NbdGatewayHost {
  readonly #clock: Clock;
  readonly #log: Log;
  #data: GatewayThreadData;
  #worker: Worker | undefined;
  #stopping = false;
  #port = 0;

  private constructor(data: GatewayThreadData, clock: Clock, log: Log) {
    this.#data = data;
    this.#clock = clock;
    this.#log = log;
  }

  /** Resolves when it listens. @throws UnderstudyError Unavailable */
  static async start(data: GatewayThreadData, clock: Clock, log: Log): Promise<NbdGatewayHost> {
    const host = new NbdGatewayHost(data, clock, log);
    await host.#start();
    return host;
  }

  get port(): number {
    return this.#port;
  }

  /** Connections that are made from now on use these certificates. */
  renewTls(tls: LinkTls): void {
    this.#data = { ...this.#data, tls };
    this.#order({ type: 'setTls', tls });
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    this.#order({ type: 'stop' });
    await this.#worker?.terminate();
  }

  #order(order: GatewayOrder): void {
    this.#worker?.postMessage(order);
  }

  #start(): Promise<void> {
    const worker = new Worker(new URL('./nbd-gateway-worker.ts', import.meta.url), {
      workerData: this.#data,
      name: 'nbd-gateway',
    });
    this.#worker = worker;
    return new Promise((resolve, reject) => {
      let listening = false;
      worker.on('message', (message: GatewayMessage) => {
        if (message.type === 'log') return this.#log[message.level](message.labels, message.message);
        if (message.type === 'failed') return reject(fromPortable(message.error));
        listening = true;
        this.#port = message.port;
        resolve();
      });
      worker.on('error', (error) => {
        this.#log.error({ error: errorMessage(error) }, 'the thread of the NBD port failed');
        reject(error);
      });
      worker.on('exit', () => {
        if (listening) this.#restartLater();
      });
    });
  }

  #restartLater(): void {
    if (this.#stopping) return;
    this.#clock.after(restartMs, () => {
      if (this.#stopping) return;
      this.#start().catch((error: unknown) => {
        this.#log.error({ error: errorMessage(error) }, 'the NBD port cannot be opened again');
        this.#restartLater();
      });
    });
  }
}
