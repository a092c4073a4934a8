import { type ErrorCode, UnderstudyError } from '../../common/errors.ts';
import type { Connection } from '../core/connection.ts';
import type { Range } from '../core/range.ts';
import type { RestoreMarker } from '../mirror/restore-marker.ts';
import {
  answerShape,
  checked,
  encodeMessage,
  type RestoreAnswer,
  RestoreFrames,
  type RestoreRequestMessage,
  restoreProtocolVersion,
} from './restore-protocol.ts';
import type { RestoreOutlook, RestoreSource } from './restore-source.ts';

type Answer = RestoreAnswer | { readonly type: 'data'; readonly data: Uint8Array };

/** The primary's end of a connection to the copy that keeps a snapshot, or that has to know of the restore. */
export class RestoreClient implements RestoreSource {
  readonly #connection: Connection;
  readonly #frames = new RestoreFrames();
  #waiting: PromiseWithResolvers<Answer> | undefined;
  #ended: UnderstudyError | undefined;

  private constructor(connection: Connection) {
    this.#connection = connection;
    connection.handle({
      received: (bytes) => this.#received(bytes),
      drained: () => undefined,
      closed: (reason) => this.#end(reason?.message ?? 'the peer closed the connection'),
    });
  }

  /** @throws what the standby says: Conflict (it is none, or of another volume or a newer epoch), Unavailable, Protocol */
  static async open(
    connection: Connection,
    identity: { readonly uid: string | undefined; readonly epoch: number },
  ): Promise<RestoreClient> {
    const { uid, epoch } = identity;
    const protocol = restoreProtocolVersion;
    const hello = { type: 'hello', protocol, epoch, ...(uid === undefined ? {} : { uid }) } as const;
    return (await RestoreClient.#greet(connection, hello, 'done')).client;
  }

  /**
   * To fill another volume from a snapshot. @throws what the agent that keeps it says: NotFound (it does not keep it for
   * this), Conflict (another volume), Protocol
   */
  static async openForFilling(
    connection: Connection,
    { uid, ...snapshot }: { readonly uid: string | undefined; readonly snapshot: string; readonly hold: string },
  ): Promise<{ readonly client: RestoreClient; readonly sizeBytes: number }> {
    const protocol = restoreProtocolVersion;
    const hello = { type: 'fill', protocol, ...snapshot, ...(uid === undefined ? {} : { uid }) } as const;
    const { client, answer } = await RestoreClient.#greet(connection, hello, 'held');
    return { client, sizeBytes: answer.sizeBytes };
  }

  static async #greet<Type extends Answer['type']>(
    connection: Connection,
    hello: RestoreRequestMessage,
    expected: Type,
  ): Promise<{ readonly client: RestoreClient; readonly answer: Extract<Answer, { type: Type }> }> {
    const client = new RestoreClient(connection);
    try {
      return { client, answer: await client.#ask(hello, expected) };
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  get isOpen(): boolean {
    return this.#ended === undefined;
  }

  async look(snapshot: string, before: string | undefined): Promise<RestoreOutlook> {
    const request = { type: 'look', snapshot, ...(before === undefined ? {} : { before }) } as const;
    const { changedSinceBefore, ...outlook } = await this.#ask(request, 'outlook');
    return { ...outlook, changedSinceBefore };
  }

  async changed(snapshot: string, range: Range): Promise<Range[]> {
    return (await this.#ask({ type: 'changed', snapshot, range }, 'ranges')).ranges;
  }

  /** The ranges within this one that do not certainly read as zeroes. */
  async data(snapshot: string, range: Range): Promise<Range[]> {
    return (await this.#ask({ type: 'data', snapshot, range }, 'ranges')).ranges;
  }

  async read(snapshot: string, range: Range): Promise<Uint8Array> {
    const { data } = await this.#ask({ type: 'read', snapshot, range }, 'data');
    if (data.length !== range.length)
      throw new UnderstudyError('Protocol', `${data.length} bytes of a snapshot: expected ${range.length}`);
    return data;
  }

  /** It is durable there when this resolves. */
  async mark(marker: RestoreMarker): Promise<void> {
    await this.#ask({ type: 'mark', marker }, 'done');
  }

  async close(): Promise<void> {
    this.#connection.destroy();
  }

  /** One request at a time. */
  async #ask<Type extends Answer['type']>(
    request: RestoreRequestMessage,
    expected: Type,
  ): Promise<Extract<Answer, { type: Type }>> {
    if (this.#ended) throw this.#ended;
    const waiting = Promise.withResolvers<Answer>();
    this.#waiting = waiting;
    this.#connection.send(...encodeMessage(request));
    const answer = await waiting.promise;
    if (answer.type === 'error') throw new UnderstudyError(answer.code as ErrorCode, answer.message);
    if (answer.type === expected) return answer as Extract<Answer, { type: Type }>;
    throw new UnderstudyError(
      'Protocol',
      `"${answer.type}" in answer to "${request.type}" on a connection for a restore`,
    );
  }

  #received(bytes: Uint8Array): void {
    try {
      for (const frame of this.#frames.push(bytes)) {
        const waiting = this.#waiting;
        this.#waiting = undefined;
        waiting?.resolve(
          frame.kind === 'data' ? { type: 'data', data: frame.data } : checked(answerShape, frame.value),
        );
      }
    } catch (error) {
      this.#end(error instanceof Error ? error.message : String(error));
      this.#connection.destroy();
    }
  }

  #end(reason: string): void {
    this.#ended ??= new UnderstudyError('Unavailable', `the connection to the copy that keeps the snapshot: ${reason}`);
    this.#waiting?.reject(this.#ended);
    this.#waiting = undefined;
  }
}
