import type { Clock } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { KeyedLock, Release } from '../core/keyed-lock.ts';
import type { AttachmentJournal } from './attachment-journal.ts';
import type { Commands } from './commands.ts';
import { type Freeze, freezeFilesystem } from './filesystem-freeze.ts';

/** A volume's filesystem held still around a barrier. */
export interface Quiesced {
  /** filesystem: its filesystem is frozen, or not in use at all. crash: it is as it is after a power cut. */
  readonly consistency: 'crash' | 'filesystem';
  /** Lets it go on. Never fails; calling it again does nothing. */
  thaw(): Promise<void>;
  /**
   * After thaw: whether the filesystem had thawed by itself before, because time was up. What was taken meanwhile is
   * then of consistency "crash" only.
   */
  readonly expired: boolean;
}

export interface Quiescer {
  /**
   * Freezes the volume's filesystem for at most `timeoutMs`. Until thawed, nothing is mounted or unmounted on the
   * volume. Does not fail: where nothing can be frozen, the consistency says so.
   */
  freeze(volume: string, options: { timeoutMs: number }): Promise<Quiesced>;
}

export interface MountQuiescerOptions {
  readonly journal: AttachmentJournal;
  /** The lock per volume that mounting and unmounting take. */
  readonly lock: KeyedLock;
  readonly commands: Commands;
  readonly clock: Clock;
  readonly log: Log;
}

const notQuiesced: Quiesced = { consistency: 'crash', thaw: async () => {}, expired: false };

/**
 * Quiesces what this agent has mounted. It knows of no other user of a volume: a client of its NBD export that is not
 * one of our attachments is for the owner of the export to consider.
 */
export class MountQuiescer implements Quiescer {
  readonly #options: MountQuiescerOptions;

  constructor(options: MountQuiescerOptions) {
    this.#options = options;
  }

  async freeze(volume: string, options: { timeoutMs: number }): Promise<Quiesced> {
    // A volume that is just being mounted, formatted or unmounted is in the middle of something.
    const release = this.#options.lock.tryAcquire(volume);
    if (release === undefined) return notQuiesced;
    try {
      return await this.#freezeLocked(volume, options, release);
    } catch (error) {
      release();
      this.#options.log.warn({ volume }, `not frozen: ${errorMessage(error)}`);
      return notQuiesced;
    }
  }

  async #freezeLocked(volume: string, options: { timeoutMs: number }, release: Release): Promise<Quiesced> {
    const { journal, commands, clock } = this.#options;
    const mounts = journal.mounts.filter((record) => record.volume === volume && record.kind !== 'snapshot');
    const [first] = mounts;
    if (first === undefined) {
      // An attachment without a mount is a leftover that may still hold data to write back.
      const attached = journal.attachments.some((record) => record.volume === volume && !record.scratch);
      return this.#held(attached ? 'crash' : 'filesystem', volume, release);
    }
    if (mounts.some((record) => record.kind === 'device' || record.state !== 'mounted')) {
      return this.#held('crash', volume, release);
    }
    // All mounts of a live volume show one filesystem, which is frozen as a whole.
    return this.#held(
      'filesystem',
      volume,
      release,
      await freezeFilesystem({ commands, clock }, first.mountPoint, options),
    );
  }

  #held(consistency: Quiesced['consistency'], volume: string, release: Release, freeze?: Freeze): Quiesced {
    const { log } = this.#options;
    let expired = false;
    return {
      consistency,
      get expired() {
        return expired;
      },
      thaw: async () => {
        try {
          expired = freeze !== undefined && !(await freeze.end());
          if (expired) log.warn({ volume }, 'the filesystem had thawed by itself before it was told to');
        } finally {
          release();
        }
      },
    };
  }
}
