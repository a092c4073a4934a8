import { UnderstudyError } from '../../common/errors.ts';
import type { AttachableExport } from './export-source.ts';

/** Something of ours that is there on this machine now, whole or in part. */
export interface PresentAttachment {
  readonly name: string;
  /** The block devices; more than one only if an earlier attach was interrupted. */
  readonly devices: readonly string[];
  /** Everything is in place and its I/O can reach the server. */
  readonly alive: boolean;
}

/**
 * Makes block devices of NBD exports. A driver keeps no record: what it has made it finds again on the machine itself,
 * by the name it was given, so that it can undo what an agent left behind that was killed at any moment.
 */
export interface AttachDriver {
  readonly kind: 'nbd' | 'fuse' | 'none';
  /**
   * Whether the devices of an agent that died work again when the next one serves the same exports. Otherwise their I/O
   * fails from that moment on, and they can only be undone.
   */
  readonly survivesRestart: boolean;
  /** Why it cannot be used on this machine, or undefined if it can. */
  unusable(): Promise<string | undefined>;
  /**
   * Makes a block device; `name` is unique, and made of the characters of a file name. After a failure, or a crash, call
   * detach: something may have been left.
   */
  attach(target: AttachableExport, options: { name: string }): Promise<{ device: string }>;
  /**
   * Undoes an attachment, whole or in part; one that is not there is no error. What was written has reached the server.
   * @throws InUse, naming the device, while anybody has it open; it is then released by itself when they close it.
   */
  detach(name: string): Promise<void>;
  /** All I/O on it fails from now on, what waits included, so that undoing it cannot hang. Nothing is undone yet. */
  cut(name: string): Promise<void>;
  /**
   * Undoes an attachment that is of no use any more, without waiting for anybody: all I/O on it fails from now on.
   * Resolves with the devices that others keep open; they are dead, and vanish when these close them.
   */
  abandon(name: string): Promise<{ remaining: string[] }>;
  list(): Promise<PresentAttachment[]>;
  /**
   * Connects a device that is there and whose connection has died to its export again; I/O that waits goes on. Only of
   * drivers whose devices survive a restart.
   * @throws NotFound when there is no such device any more, Conflict when it is bound to another volume or epoch, and
   *   what keeps the export from being reached
   */
  reconnect?(target: AttachableExport, options: { name: string }): Promise<void>;
  /**
   * Makes a device that is in use as large as its export has become. One that has that size already stays as it is.
   * @throws NotFound, NotReady when it must be attached anew for that
   */
  grow?(target: AttachableExport, options: { name: string }): Promise<void>;
  /** Lets go of what is only needed while attachments are looked after. What is attached stays. */
  close?(): void;
}

/** Stands in where nothing can be attached, and says why to whoever tries. */
export class NoDriver implements AttachDriver {
  readonly kind = 'none';
  readonly survivesRestart = false;
  readonly #reason: string;

  constructor(reason: string) {
    this.#reason = reason;
  }

  async unusable(): Promise<string> {
    return this.#reason;
  }

  async attach(): Promise<never> {
    throw new UnderstudyError('Unavailable', `volumes cannot be attached on this node: ${this.#reason}`);
  }

  async detach(): Promise<void> {}

  async cut(): Promise<void> {}

  async abandon(): Promise<{ remaining: string[] }> {
    return { remaining: [] };
  }

  async list(): Promise<PresentAttachment[]> {
    return [];
  }
}
