import { errorCode, errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { Connection } from '../core/connection.ts';
import { checkRange } from '../core/range.ts';
import {
  checked,
  encodeData,
  encodeMessage,
  maxReadBytes,
  type RestoreAnswer,
  RestoreFrames,
  type RestoreRequestMessage,
  requestShape,
  restoreProtocolVersion,
} from './restore-protocol.ts';
import { type CowRestoreSource, restoreWindowBytes } from './restore-source.ts';
import type { SnapshotHolds } from './snapshot-holds.ts';
import type { RecordStore } from './volume-record.ts';

export interface RestoreServerOptions {
  readonly store: RecordStore;
  readonly source: CowRestoreSource;
  readonly device: { readonly size: number; readonly blockSize: number };
  /** Whether this copy still is a standby. */
  readonly isStandby: () => boolean;
  /** For a connection that fills another volume from a snapshot which is kept for it; all else is not for that. */
  readonly holds?: SnapshotHolds | undefined;
  readonly log: Log;
}

const forFilling: readonly RestoreRequestMessage['type'][] = ['fill', 'data', 'read'];
const forRestores: readonly RestoreRequestMessage['type'][] = ['hello', 'look', 'changed', 'read', 'mark'];

/**
 * The other end of a connection for a restore: shows a snapshot to the primary, and writes down what it says; or shows the
 * one snapshot that is kept for it to a volume that is filled from that.
 */
export class RestoreServer {
  readonly #connection: Connection;
  readonly #options: RestoreServerOptions;
  readonly #frames = new RestoreFrames();
  #greeted = false;
  /** The only one that is shown, on a connection for a filling. */
  #held: string | undefined;
  /** Requests, one after the other. */
  #turn: Promise<void> = Promise.resolve();

  constructor(connection: Connection, options: RestoreServerOptions) {
    this.#connection = connection;
    this.#options = options;
    connection.handle({
      received: (bytes) => this.#received(bytes),
      drained: () => undefined,
      closed: () => void this.#turn.then(() => options.source.close()),
    });
  }

  #received(bytes: Uint8Array): void {
    try {
      for (const frame of this.#frames.push(bytes)) {
        const request = checked(requestShape, frame.kind === 'json' ? frame.value : undefined);
        this.#turn = this.#turn.then(() => this.#answer(request));
      }
    } catch (error) {
      this.#options.log.warn({ error: errorMessage(error) }, 'a connection for a restore is ended');
      this.#connection.destroy();
    }
  }

  async #answer(request: RestoreRequestMessage): Promise<void> {
    try {
      this.#checkAllowed(request);
      if (request.type === 'read') return void this.#connection.send(...encodeData(await this.#read(request)));
      this.#connection.send(...encodeMessage(await this.#do(request)));
    } catch (error) {
      this.#connection.send(...encodeMessage({ type: 'error', code: errorCode(error), message: errorMessage(error) }));
    }
  }

  async #do(request: Exclude<RestoreRequestMessage, { type: 'read' }>): Promise<RestoreAnswer> {
    const { source, store } = this.#options;
    switch (request.type) {
      case 'hello':
        this.#admit(request);
        this.#greeted = true;
        return { type: 'done' };
      case 'fill':
        this.#admitFilling(request);
        this.#greeted = true;
        return { type: 'held', sizeBytes: source.sizeBytes(request.snapshot) };
      case 'data':
        this.#check(request.range, restoreWindowBytes);
        return { type: 'ranges', ranges: await source.data(request.snapshot, request.range) };
      case 'look': {
        const { changedSinceBefore, ...outlook } = await source.look(request.snapshot, request.before);
        return { type: 'outlook', ...outlook, ...(changedSinceBefore === undefined ? {} : { changedSinceBefore }) };
      }
      case 'changed':
        this.#check(request.range, restoreWindowBytes);
        return { type: 'ranges', ranges: await source.changed(request.snapshot, request.range) };
      case 'mark':
        await store.update((record) => ({ ...record, restore: request.marker }));
        return { type: 'done' };
    }
  }

  async #read({ snapshot, range }: Extract<RestoreRequestMessage, { type: 'read' }>): Promise<Uint8Array> {
    this.#check(range, maxReadBytes);
    return this.#options.source.read(snapshot, range);
  }

  #check({ offset, length }: { offset: number; length: number }, longest: number): void {
    checkRange(this.#options.device, offset, length);
    if (length > longest) throw new UnderstudyError('Invalid', `${length} bytes at once: expected at most ${longest}`);
  }

  #checkAllowed(request: RestoreRequestMessage): void {
    const { holds, isStandby } = this.#options;
    if (holds === undefined && !isStandby()) throw new UnderstudyError('Conflict', 'this copy is no standby any more');
    const allowed = holds === undefined ? forRestores : forFilling;
    if (!allowed.includes(request.type))
      throw new UnderstudyError('Protocol', `"${request.type}" is not for this kind of connection`);
    if (request.type === 'hello' || request.type === 'fill') return;
    if (!this.#greeted) throw new UnderstudyError('Protocol', 'no hello');
    if (holds !== undefined && 'snapshot' in request && request.snapshot !== this.#held)
      throw new UnderstudyError('Protocol', `snapshot ${request.snapshot} is not what this connection is for`);
  }

  #admitFilling({ protocol, uid, snapshot, hold }: Extract<RestoreRequestMessage, { type: 'fill' }>): void {
    this.#checkIdentity(protocol, uid);
    this.#options.holds?.check(snapshot, hold);
    this.#held = snapshot;
  }

  #checkIdentity(protocol: number, uid: string | undefined): void {
    const { record } = this.#options.store;
    if (protocol !== restoreProtocolVersion) {
      const message = `this agent speaks version ${restoreProtocolVersion} of the protocol for restores, the primary's ${protocol}: upgrade the older one`;
      throw new UnderstudyError('Protocol', message);
    }
    if (uid !== record.uid)
      throw new UnderstudyError('Conflict', `this copy is of another volume, with uid ${record.uid}`);
  }

  #admit({ protocol, uid, epoch }: Extract<RestoreRequestMessage, { type: 'hello' }>): void {
    const { record } = this.#options.store;
    this.#checkIdentity(protocol, uid);
    if (epoch < Math.max(record.epoch, record.standby.preparedEpoch ?? 0))
      throw new UnderstudyError('Conflict', `this copy knows epoch ${record.epoch}, the primary is of ${epoch}`);
  }
}
