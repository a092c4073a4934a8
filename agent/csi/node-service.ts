/**
 * The CSI node service: what the kubelet of this node calls to have volumes and snapshots mounted for pods.
 *
 * Each call may be repeated, and may have been cut short anywhere: mounts have names that follow from handle and path,
 * NodeMounts brings each to what is asked for or leaves nothing, and what was asked for is in the journal first. Calls
 * for one handle exclude each other; the second is answered ABORTED, and the kubelet comes again.
 *
 * Source: https://github.com/container-storage-interface/spec/blob/master/spec.md#node-service-rpc
 */
import { CsiError } from '../../common/csi/csi-error.ts';
import { topologyKey, topologyValue } from '../../common/csi/driver.ts';
import type {
  Empty,
  NodeCalls,
  NodeCapabilities,
  NodeCapability,
  NodeExpandRequest,
  NodeExpandResponse,
  NodeInfo,
  NodePublishRequest,
  NodeStageRequest,
  NodeStatsRequest,
  NodeStatsResponse,
  NodeUnpublishRequest,
  NodeUnstageRequest,
} from '../../common/csi/messages.ts';
import type { Log } from '../../common/log.ts';
import type { MountView } from '../api/contract/mounts.ts';
import { KeyedLock } from '../core/keyed-lock.ts';
import type { FilesystemUsage, KubeletMounts } from './kubelet-mounts.ts';
import { checkPath, removeTarget } from './kubelet-path.ts';
import type { Use, UseJournal } from './use-journal.ts';
import { conditionOf } from './volume-condition.ts';
import { mountNameOf, parseHandle, type VolumeHandle } from './volume-handle.ts';
import type { VolumeLookup } from './volume-lookup.ts';
import { type WantedMount, wantedMount } from './wanted-mount.ts';

export interface NodeServiceOptions {
  readonly node: string;
  readonly volumes: VolumeLookup;
  readonly mounts: KubeletMounts;
  readonly journal: UseJournal;
  readonly usage: FilesystemUsage;
  /** Paths outside of it are refused. */
  readonly kubeletDirectory?: string | undefined;
  readonly log: Log;
}

const capabilities: readonly NodeCapability[] = [
  'STAGE_UNSTAGE_VOLUME',
  'GET_VOLUME_STATS',
  'EXPAND_VOLUME',
  'VOLUME_CONDITION',
  'SINGLE_NODE_MULTI_WRITER',
];

export class NodeService implements NodeCalls {
  readonly #options: NodeServiceOptions;
  readonly #busy = new KeyedLock();

  constructor(options: NodeServiceOptions) {
    this.#options = options;
  }

  async nodeGetCapabilities(): Promise<NodeCapabilities> {
    return { capabilities: capabilities.map((type) => ({ rpc: { type } })) };
  }

  async nodeGetInfo(): Promise<NodeInfo> {
    const { node } = this.#options;
    return { nodeId: node, accessibleTopology: { segments: { [topologyKey]: topologyValue(node) } } };
  }

  async nodeStageVolume(request: NodeStageRequest): Promise<Empty> {
    const { volumeId, stagingTargetPath: path } = request;
    const handle = handleOf(volumeId);
    this.#checkPath('staging target path', path);
    const wanted = wantedMount(handle, request.volumeCapability, { readOnly: false });
    return this.#exclusively(volumeId, async () => {
      const { volumes } = this.#options;
      await volumes.identify(handle.volume, request.volumeContext);
      // What is staged is the same for all pods, and @latest is another snapshot for each.
      if (handle.kind === 'latest') return {};
      const { snapshot } = await volumes.resolve(handle, request.volumeContext);
      // Of a raw device there is nothing to share before a pod has it.
      if (wanted.access === 'block') return {};
      return this.#use(
        useOf('staged', { path, handle: volumeId, volume: handle.volume, snapshot, pod: undefined }, wanted),
      );
    });
  }

  async nodeUnstageVolume({ volumeId, stagingTargetPath: path }: NodeUnstageRequest): Promise<Empty> {
    checkId(volumeId);
    this.#checkPath('staging target path', path);
    return this.#exclusively(volumeId, async () => {
      await this.#undo('staged', volumeId, path);
      return {};
    });
  }

  async nodePublishVolume(request: NodePublishRequest): Promise<Empty> {
    const { volumeId, stagingTargetPath, targetPath: path, volumeContext } = request;
    const handle = handleOf(volumeId);
    this.#checkPath('target path', path);
    const wanted = wantedMount(handle, request.volumeCapability, { readOnly: request.readonly });
    if (stagingTargetPath === '') throw new CsiError('FAILED_PRECONDITION', 'no staging target path was given');
    return this.#exclusively(volumeId, async () => {
      const pinned = this.#options.journal.find('published', path)?.snapshot;
      const { snapshot } = await this.#options.volumes.resolve(handle, volumeContext, pinned);
      this.#checkStaged(handle, volumeId, stagingTargetPath, wanted);
      this.#checkSingleWriter(volumeId, path, wanted);
      const asked = { path, handle: volumeId, volume: handle.volume, snapshot, pod: podOf(volumeContext) };
      return this.#use(useOf('published', asked, wanted));
    });
  }

  async nodeUnpublishVolume({ volumeId, targetPath: path }: NodeUnpublishRequest): Promise<Empty> {
    checkId(volumeId);
    this.#checkPath('target path', path);
    return this.#exclusively(volumeId, async () => {
      await this.#undo('published', volumeId, path);
      await removeTarget(path);
      return {};
    });
  }

  async nodeGetVolumeStats({ volumeId, volumePath }: NodeStatsRequest): Promise<NodeStatsResponse> {
    const handle = handleOf(volumeId);
    if (volumePath === '') throw new CsiError('INVALID_ARGUMENT', 'no volume path was given');
    const { volumes, usage } = this.#options;
    const view = await volumes.view(handle.volume);
    const mount = await this.#mountAt(handle, volumeId, volumePath);
    const volumeCondition = conditionOf(view, mount.snapshot);
    if (mount.fsType === 'none') {
      const snapshot = view.snapshots.find(({ name }) => name === mount.snapshot);
      return { usage: [{ unit: 'BYTES', total: snapshot?.size ?? view.size }], volumeCondition };
    }
    return { usage: await usage(volumePath), volumeCondition };
  }

  async nodeExpandVolume({ volumeId, volumePath, capacityRange }: NodeExpandRequest): Promise<NodeExpandResponse> {
    const handle = handleOf(volumeId);
    if (volumePath === '') throw new CsiError('INVALID_ARGUMENT', 'no volume path was given');
    if (handle.kind !== 'live') throw new CsiError('INVALID_ARGUMENT', `${volumeId} is a snapshot: it does not grow`);
    const { size } = await this.#options.volumes.view(handle.volume);
    const mount = await this.#mountAt(handle, volumeId, volumePath);
    const { requiredBytes = 0, limitBytes = 0 } = capacityRange ?? {};
    if (limitBytes > 0 && size > limitBytes) {
      throw new CsiError('OUT_OF_RANGE', `volume ${volumeId} has ${size} bytes, more than the ${limitBytes} allowed`);
    }
    if (requiredBytes > size) {
      const message = `volume ${volumeId} has ${size} bytes, asked for are ${requiredBytes}: its copies have not grown yet`;
      throw new CsiError('FAILED_PRECONDITION', message);
    }
    return this.#exclusively(volumeId, async () => {
      const { sizeBytes } = await this.#options.mounts.grow(handle.volume, mount.mount);
      return { capacityBytes: sizeBytes };
    });
  }

  /**
   * Mounts what a path is to be used for. It is in the journal before the first step; after a failure it is there only
   * if it was before.
   */
  async #use(use: Use): Promise<Empty> {
    const { journal } = this.#options;
    const known = journal.find(use.kind, use.path);
    if (known) refuseOther(known, use);
    await journal.put(use);
    try {
      await this.#mount(use);
      return {};
    } catch (error) {
      await (known ? journal.put(known) : journal.remove(use.kind, use.path));
      throw error;
    }
  }

  #mount(use: Use): Promise<MountView> {
    const { mounts } = this.#options;
    const { volume, snapshot, path: target, readOnly } = use;
    const name = mountNameOf(use.handle, target);
    const options = [...use.options];
    if (snapshot !== undefined) {
      if (use.access === 'block') return mounts.publishSnapshotDevice(volume, snapshot, name, target);
      return mounts.mountSnapshot(volume, snapshot, name, { target, options }, { shared: true });
    }
    if (use.access === 'block') return mounts.publishDevice(volume, name, { target, readOnly });
    const fsType = use.fsType as WantedMount['fsType'];
    return mounts.mountVolume(volume, name, { target, fsType, format: true, readOnly, options });
  }

  async #undo(kind: Use['kind'], volumeId: string, path: string): Promise<void> {
    const handle = parseHandle(volumeId);
    // What has no handle of ours was never mounted.
    if (!handle) return;
    await this.#options.mounts.unmount(handle.volume, mountNameOf(volumeId, path));
    await this.#options.journal.remove(kind, path);
  }

  #checkStaged(handle: VolumeHandle, volumeId: string, stagingPath: string, wanted: WantedMount): void {
    if (handle.kind === 'latest' || wanted.access === 'block') return;
    const staged = this.#options.journal.find('staged', stagingPath);
    if (staged?.handle === volumeId) return;
    throw new CsiError('FAILED_PRECONDITION', `volume ${volumeId} is not staged at ${stagingPath}`);
  }

  #checkSingleWriter(volumeId: string, path: string, wanted: WantedMount): void {
    if (wanted.accessMode !== 'SINGLE_NODE_SINGLE_WRITER') return;
    const other = this.#options.journal.uses.find(
      (use) => use.kind === 'published' && use.handle === volumeId && use.path !== path,
    );
    if (!other) return;
    const message = `volume ${volumeId} is for one pod at a time, and is published to ${other.pod ?? other.path}`;
    throw new CsiError('FAILED_PRECONDITION', message);
  }

  async #mountAt(handle: VolumeHandle, volumeId: string, path: string): Promise<MountView> {
    const name = mountNameOf(volumeId, path);
    const found = (await this.#options.mounts.list()).find(
      (mount) => mount.volume === handle.volume && mount.mount === name,
    );
    if (found) return found;
    throw new CsiError('NOT_FOUND', `volume ${volumeId} is not mounted at ${path}`);
  }

  #checkPath(what: string, path: string): void {
    checkPath(what, path, this.#options.kubeletDirectory);
  }

  /** @throws CsiError ABORTED while another call for that handle is under way */
  async #exclusively<T>(volumeId: string, task: () => Promise<T>): Promise<T> {
    const release = this.#busy.tryAcquire(volumeId);
    if (!release) throw new CsiError('ABORTED', `another call for volume ${volumeId} is under way`);
    try {
      return await task();
    } finally {
      release();
    }
  }
}

function useOf(
  kind: Use['kind'],
  { path, handle, volume, snapshot, pod }: Pick<Use, 'path' | 'handle' | 'volume' | 'snapshot' | 'pod'>,
  { access, accessMode, readOnly, fsType, options }: WantedMount,
): Use {
  return {
    kind,
    path,
    handle,
    volume,
    ...(snapshot === undefined ? {} : { snapshot }),
    access,
    accessMode,
    readOnly,
    fsType,
    options: [...options],
    ...(pod === undefined ? {} : { pod }),
  };
}

/** @throws CsiError ALREADY_EXISTS when a path is used for something else */
function refuseOther(known: Use, wanted: Use): void {
  const shape = ({ handle, access, accessMode, readOnly, fsType, options }: Use) =>
    JSON.stringify({ handle, access, accessMode, readOnly, fsType, options });
  if (shape(known) === shape(wanted)) return;
  const what = known.handle === wanted.handle ? `with another capability` : `of volume ${known.handle}`;
  throw new CsiError('ALREADY_EXISTS', `${wanted.path} is ${known.kind} already, ${what}`);
}

function checkId(volumeId: string): void {
  if (volumeId === '') throw new CsiError('INVALID_ARGUMENT', 'no volume id was given');
}

/** @throws CsiError INVALID_ARGUMENT if there is none, NOT_FOUND for what is no handle of this driver */
function handleOf(volumeId: string): VolumeHandle {
  checkId(volumeId);
  const handle = parseHandle(volumeId);
  if (handle) return handle;
  throw new CsiError('NOT_FOUND', `there is no volume ${JSON.stringify(volumeId)}: it is no handle of this driver`);
}

/** Where CSIDriver.spec.podInfoOnMount is set, the kubelet says which pod it is. */
function podOf(context: Readonly<Record<string, string>>): string | undefined {
  const name = context['csi.storage.k8s.io/pod.name'];
  const namespace = context['csi.storage.k8s.io/pod.namespace'];
  if (!name) return undefined;
  return namespace ? `${namespace}/${name}` : name;
}
