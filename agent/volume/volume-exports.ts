import { UnderstudyError } from '../../common/errors.ts';
import type { BlockDevice } from '../core/block-device.ts';
import type { CowDevice } from '../cow/cow-device.ts';
import { BackgroundPace } from '../nbd/background-pace.ts';
import type { ContextQuery, ExportProvider, NbdExport } from '../nbd/exports.ts';
import type { ScratchViews } from './scratch-views.ts';

const dirtyFlag = 1;

export interface VolumeExportsOptions {
  readonly volume: string;
  readonly cow: CowDevice | undefined;
  readonly scratch: ScratchViews;
}

/**
 * The exports of one copy: `<volume>`, the live volume (of a primary only); `<volume>@<snapshot>`, read-only; and,
 * unlisted, `<volume>@<snapshot>+<mount>`, a snapshot under a mount's scratch overlay. Every export but the last has a
 * metadata context `qemu:dirty-bitmap:<snapshot>` for each older snapshot: what has changed since.
 */
export class VolumeExports implements ExportProvider {
  readonly #options: VolumeExportsOptions;
  /** The live device of a primary; undefined on a standby. */
  live: BlockDevice | undefined;
  #liveConnections = 0;
  readonly #pace = new BackgroundPace({ bytesPerTurn: backgroundBytesPerTurn, nextTurn: setImmediate });
  /** Why the live volume must not be used now, if so. */
  obstacle: () => string | undefined = () => undefined;

  constructor(options: VolumeExportsOptions) {
    this.#options = options;
  }

  /** Connections to the live volume. */
  get liveConnections(): number {
    return this.#liveConnections;
  }

  list(): string[] {
    const { live } = this;
    const { volume } = this.#options;
    const snapshots = this.#ready().map(({ name }) => `${volume}@${name}`);
    return live ? [volume, ...snapshots] : snapshots;
  }

  async open(name: string): Promise<NbdExport> {
    const { volume, scratch } = this.#options;
    if (name === volume || name === '') return this.#openLive();
    if (name.startsWith(`${volume}@`)) {
      const [snapshot = '', mount] = name.slice(volume.length + 1).split('+');
      return mount === undefined
        ? this.#openSnapshot(snapshot)
        : this.#openScratch(snapshot, await scratch.view(snapshot, mount));
    }
    throw new UnderstudyError(
      'NotFound',
      `no export ${JSON.stringify(name)} here; there are ${this.list().join(', ') || 'none'}`,
    );
  }

  #openLive(): NbdExport {
    const { live } = this;
    const { volume } = this.#options;
    if (!live) {
      throw new UnderstudyError(
        'NotReady',
        `volume ${volume} is a standby on this node: only its snapshots can be read here`,
      );
    }
    const obstacle = this.obstacle();
    if (obstacle !== undefined) throw new UnderstudyError('NotReady', obstacle);
    this.#liveConnections += 1;
    return {
      name: volume,
      device: live,
      readOnly: false,
      multiConn: true,
      description: `volume ${volume}`,
      contexts: this.#changesSince(),
      close: async () => {
        this.#liveConnections -= 1;
      },
    };
  }

  #openSnapshot(snapshot: string): NbdExport {
    const { volume } = this.#options;
    const device = this.#cow().openSnapshot(snapshot);
    return {
      name: `${volume}@${snapshot}`,
      device,
      readOnly: true,
      multiConn: true,
      background: this.#pace,
      description: `snapshot ${snapshot} of volume ${volume}`,
      contexts: this.#changesSince(snapshot),
      close: () => device.close(),
    };
  }

  #openScratch(snapshot: string, device: BlockDevice): NbdExport {
    return {
      device,
      readOnly: false,
      multiConn: true,
      background: this.#pace,
      description: `snapshot ${snapshot} of volume ${this.#options.volume}, under a scratch overlay`,
      contexts: new Map(),
      close: async () => undefined,
    };
  }

  /** One context for each snapshot that is older than `until`, or than the live volume. */
  #changesSince(until?: string): Map<string, ContextQuery> {
    const contexts = new Map<string, ContextQuery>();
    const { cow } = this.#options;
    if (!cow) return contexts;
    for (const { name } of this.#ready()) {
      if (name === until) break;
      contexts.set(`qemu:dirty-bitmap:${name}`, (offset, length) =>
        cow.changedExtents(name, offset, length, until).map((extent) => ({
          length: extent.length,
          flags: extent.dirty ? dirtyFlag : 0,
        })),
      );
    }
    return contexts;
  }

  #ready() {
    return (this.#options.cow?.listSnapshots() ?? []).filter(({ state }) => state === 'Ready');
  }

  #cow(): CowDevice {
    const { cow, volume } = this.#options;
    if (!cow) throw new UnderstudyError('NotFound', `volume ${volume} has no snapshots on this copy`);
    return cow;
  }
}

/** Read for all clients of snapshots in one turn of the event loop: what takes a tenth of a millisecond or two. */
const backgroundBytesPerTurn = 256 * 1024;
