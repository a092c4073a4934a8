import { Worker } from 'node:worker_threads';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { Arbiter } from '../mirror/arbiter.ts';
import {
  type EngineCalls,
  type EngineMethod,
  type EngineThreadData,
  fromPortable,
  type ThreadMessage,
} from './engine-calls.ts';

/** An idle volume needs little; what a busy one needs is outside of the heap, in buffers. */
const youngGenerationMb = 2;

/** The main thread's handle on a volume's thread. */
export class VolumeHost {
  readonly #worker: Worker;
  readonly #calls = new Map<number, { resolve: (value: unknown) => void; reject: (error: unknown) => void }>();
  readonly #volume: string;
  #nextId = 1;
  #ended: UnderstudyError | undefined;
  #stopping = false;

  private constructor(worker: Worker, volume: string) {
    this.#worker = worker;
    this.#volume = volume;
  }

  /**
   * Starts the thread; resolves when its exports are served.
   * `onDied` is called once if the thread ends without having been told to.
   * @throws what kept the engine from starting.
   */
  static start(
    data: Omit<EngineThreadData, 'arbiter'>,
    arbiter: Arbiter | undefined,
    log: Log,
    onDied: (reason: string) => void,
  ): Promise<VolumeHost> {
    const worker = new Worker(new URL('./engine-worker.ts', import.meta.url), {
      workerData: { ...data, arbiter: arbiter !== undefined } satisfies EngineThreadData,
      name: data.record.volume,
      resourceLimits: { maxYoungGenerationSizeMb: youngGenerationMb },
    });
    const host = new VolumeHost(worker, data.record.volume);
    return new Promise((resolve, reject) => {
      let reason = 'its thread ended';
      worker.on('message', (message: ThreadMessage) => {
        if (message.type === 'started') resolve(host);
        else if (message.type === 'startFailed') host.#startFailed(fromPortable(message.error), reject);
        else if (message.type === 'log') log[message.level](message.labels, message.message);
        else if (message.type === 'askArbiter') void host.#askArbiter(arbiter, message);
        else host.#answered(message);
      });
      worker.on('error', (error) => {
        reason = errorMessage(error);
        log.error({ volume: data.record.volume, error: reason }, 'the thread of a volume failed');
      });
      worker.on('exit', () => {
        const error = new UnderstudyError('Unavailable', `volume ${data.record.volume}: ${reason}`);
        host.#end(error);
        reject(error);
        if (!host.#stopping) onDied(reason);
      });
    });
  }

  get alive(): boolean {
    return this.#ended === undefined;
  }

  call<Method extends EngineMethod>(
    method: Method,
    ...parameters: Parameters<EngineCalls[Method]>
  ): Promise<ReturnType<EngineCalls[Method]>> {
    if (this.#ended) return Promise.reject(this.#ended);
    const id = this.#nextId;
    this.#nextId += 1;
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve: resolve as (value: unknown) => void, reject });
      this.#worker.postMessage({ id, method, parameters });
    });
  }

  /** Stops the engine in order and ends the thread. */
  async stop(): Promise<void> {
    this.#stopping = true;
    try {
      if (this.alive) await this.call('stop');
    } finally {
      await this.#worker.terminate();
    }
  }

  async #askArbiter(
    arbiter: Arbiter | undefined,
    { id, ask, question }: Extract<ThreadMessage, { type: 'askArbiter' }>,
  ): Promise<void> {
    const answer = (await arbiter?.[ask](question).catch(() => undefined)) ?? 'unreachable';
    // A thread that has ended meanwhile waits for nothing any more.
    await this.call('arbiterAnswered', id, answer).catch(() => undefined);
  }

  #answered(message: Extract<ThreadMessage, { type: 'result' | 'error' }>): void {
    const call = this.#calls.get(message.id);
    this.#calls.delete(message.id);
    if (message.type === 'result') call?.resolve(message.value);
    else call?.reject(fromPortable(message.error));
  }

  #startFailed(error: UnderstudyError, reject: (error: unknown) => void): void {
    this.#stopping = true;
    reject(error);
  }

  #end(error: UnderstudyError): void {
    this.#ended = error;
    for (const call of this.#calls.values()) call.reject(error);
    this.#calls.clear();
  }
}
