import { type Clock, delay } from '../../common/clock.ts';
import { errorCode, errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Connection } from '../core/connection.ts';
import type { Range } from '../core/range.ts';
import { RestoreClient } from './restore-client.ts';
import type { FillOrigin } from './volume-record.ts';

const retryMs = 500;

export interface FillSourceOptions {
  /** The volume that is filled: the hold on the snapshot has its name. */
  readonly volume: string;
  /** As it is now: its address may change. */
  readonly origin: () => FillOrigin;
  /** Opens a connection for fillings to the agent that keeps the snapshot. */
  readonly connect: (origin: FillOrigin) => Promise<Connection>;
  readonly clock: Clock;
  /** How long a read waits for a connection that is gone. */
  readonly patienceMs: number;
}

/** The snapshot from which a volume is filled, over a connection that is made again when it ends. One request at a time. */
export class FillSource {
  readonly #options: FillSourceOptions;
  readonly #stopping = new AbortController();
  #client: { readonly client: RestoreClient; readonly sizeBytes: number } | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: FillSourceOptions) {
    this.#options = options;
  }

  /** What the snapshot holds; zeroes behind its end. @throws UnderstudyError Unavailable, saying whether it is lost */
  read({ offset, length }: Range): Promise<Uint8Array> {
    return this.#inTurn(async ({ client, sizeBytes }, { snapshot }) => {
      const within = Math.max(0, Math.min(length, sizeBytes - offset));
      if (within === length) return client.read(snapshot, { offset, length });
      const content = new Uint8Array(length);
      if (within > 0) content.set(await client.read(snapshot, { offset, length: within }));
      return content;
    });
  }

  /** The ranges within this one that do not certainly read as zeroes. */
  data({ offset, length }: Range): Promise<Range[]> {
    return this.#inTurn(async ({ client, sizeBytes }, { snapshot }) => {
      const within = Math.max(0, Math.min(length, sizeBytes - offset));
      return within === 0 ? [] : client.data(snapshot, { offset, length: within });
    });
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new UnderstudyError('Closed', 'the volume is closed'));
    await this.#drop();
    await this.#turn;
  }

  #inTurn<Answer>(ask: (client: Connected, origin: FillOrigin) => Promise<Answer>): Promise<Answer> {
    const { clock, patienceMs } = this.#options;
    // Counted from here: those that wait behind each other are not patient one after the other.
    const deadlineMs = clock.monotonicMs() + patienceMs;
    const answer = this.#turn.then(() => this.#ask(ask, deadlineMs));
    this.#turn = answer.catch(() => undefined);
    return answer;
  }

  async #ask<Answer>(
    ask: (client: Connected, origin: FillOrigin) => Promise<Answer>,
    deadlineMs: number,
  ): Promise<Answer> {
    const { clock, origin } = this.#options;
    const { signal } = this.#stopping;
    for (;;) {
      signal.throwIfAborted();
      try {
        return await ask(await this.#connected(), origin());
      } catch (error) {
        await this.#drop();
        if (isLost(error) || clock.monotonicMs() >= deadlineMs) throw this.#unavailable(error);
      }
      await delay(clock, retryMs, signal);
    }
  }

  async #connected(): Promise<Connected> {
    if (this.#client?.client.isOpen) return this.#client;
    const { connect, origin, volume } = this.#options;
    const { uid, snapshot } = origin();
    this.#client = await RestoreClient.openForFilling(await connect(origin()), { uid, snapshot, hold: volume });
    return this.#client;
  }

  async #drop(): Promise<void> {
    const connected = this.#client;
    this.#client = undefined;
    await connected?.client.close();
  }

  /** Never Io: it is not this copy's disk that fails. */
  #unavailable(cause: unknown): UnderstudyError {
    const { volume, origin } = this.#options;
    const { snapshot, volume: of, address } = origin();
    const message = `volume ${volume} is not filled there yet, and snapshot ${snapshot} of volume ${of} at ${address} cannot be read: ${errorMessage(cause)}`;
    return new UnderstudyError('Unavailable', message, { labels: { lost: isLost(cause) }, cause });
  }
}

interface Connected {
  readonly client: RestoreClient;
  readonly sizeBytes: number;
}

/** What no waiting mends. */
function isLost(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'NotFound' || code === 'Corrupt' || code === 'Invalid' || code === 'Io' || code === 'Conflict';
}
