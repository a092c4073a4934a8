import { CsiError } from '../../common/csi/csi-error.ts';
import { uidKey } from '../../common/csi/driver.ts';
import { errorCode } from '../../common/errors.ts';
import type { VolumeView } from '../api/contract/volumes.ts';
import type { VolumeHandle } from './volume-handle.ts';

export interface VolumeSource {
  /** @throws NotFound */
  get(volume: string): Promise<VolumeView>;
  /** From where a standby's writes came last, for people. */
  primaryOf(volume: string): string | undefined;
}

/** Finds what a handle stands for among the copies of this node, and says why it cannot be used here. */
export class VolumeLookup {
  readonly #volumes: VolumeSource;
  readonly #node: string;

  constructor(options: { volumes: VolumeSource; node: string }) {
    this.#volumes = options.volumes;
    this.#node = options.node;
  }

  /** @throws CsiError NOT_FOUND */
  async view(volume: string): Promise<VolumeView> {
    try {
      return await this.#volumes.get(volume);
    } catch (cause) {
      if (errorCode(cause) !== 'NotFound') throw cause;
      throw new CsiError('NOT_FOUND', `node ${this.#node} has no copy of volume ${volume}`);
    }
  }

  /** @throws CsiError NOT_FOUND; FAILED_PRECONDITION when it is another volume of that name */
  async identify(volume: string, context: Readonly<Record<string, string>>): Promise<VolumeView> {
    const view = await this.view(volume);
    this.#checkUid(view, context[uidKey]);
    return view;
  }

  /**
   * The snapshot to be mounted, or none for the live volume. `pinned`: what `@latest` was resolved to before.
   * @throws CsiError NOT_FOUND; FAILED_PRECONDITION for another volume of that name, or a live volume that is elsewhere;
   *   UNAVAILABLE where there is no snapshot yet
   */
  async resolve(
    handle: VolumeHandle,
    context: Readonly<Record<string, string>>,
    pinned?: string,
  ): Promise<{ snapshot: string | undefined }> {
    const view = await this.identify(handle.volume, context);
    if (handle.kind === 'live') {
      this.#checkPrimary(view);
      return { snapshot: undefined };
    }
    if (handle.kind === 'snapshot') {
      this.#checkSnapshot(view, handle.snapshot);
      return { snapshot: handle.snapshot };
    }
    const ready = view.snapshots.filter(({ state }) => state === 'Ready');
    const newest = ready.find(({ name }) => name === pinned) ?? ready.at(-1);
    if (newest) return { snapshot: newest.name };
    const message = `volume ${view.volume} has no snapshot on node ${this.#node} that is ready: take one first`;
    throw new CsiError('UNAVAILABLE', message);
  }

  #checkUid(view: VolumeView, expected: string | undefined): void {
    if (expected === undefined || expected === '' || expected === view.uid) return;
    throw new CsiError(
      'FAILED_PRECONDITION',
      `volume ${view.volume} on node ${this.#node} has uid ${view.uid ?? '(none)'}, expected was ${expected}: it is another volume of that name`,
    );
  }

  #checkPrimary({ volume, role, state, lastError }: VolumeView): void {
    if (role !== 'primary') {
      const from = this.#volumes.primaryOf(volume);
      const where = from === undefined ? 'it has not heard from its primary' : `its primary is at ${from}`;
      const message = `volume ${volume} is a standby on node ${this.#node}, ${where}: mount it there`;
      throw new CsiError('FAILED_PRECONDITION', message);
    }
    if (state === 'Fenced') {
      const message = `volume ${volume} is fenced on node ${this.#node}, it is primary elsewhere: ${lastError ?? ''}`;
      throw new CsiError('FAILED_PRECONDITION', message);
    }
  }

  #checkSnapshot({ volume, snapshots }: VolumeView, name: string): void {
    const found = snapshots.find((snapshot) => snapshot.name === name);
    if (found?.state === 'Ready') return;
    if (!found) throw new CsiError('NOT_FOUND', `volume ${volume} has no snapshot ${name} on node ${this.#node}`);
    if (found.state === 'Waiting')
      throw new CsiError('UNAVAILABLE', `snapshot ${name} of volume ${volume} is being taken`);
    throw new CsiError('FAILED_PRECONDITION', `snapshot ${name} of volume ${volume} is lost: ${found.reason ?? ''}`);
  }
}
