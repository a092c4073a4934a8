import type { GroupHoldView } from '../../../../agent/api/contract/groups.ts';
import type { MountView, SnapshotMount, VolumeMount } from '../../../../agent/api/contract/mounts.ts';
import type { RestoreRequest } from '../../../../agent/api/contract/restore.ts';
import type { SnapshotRequest } from '../../../../agent/api/contract/snapshots.ts';
import type { VerificationRequest } from '../../../../agent/api/contract/verification.ts';
import type { PrepareResult, SnapshotView, VolumeSpec, VolumeView } from '../../../../agent/api/contract/volumes.ts';
import type { MountService } from '../../../../agent/volume/mount-service.ts';
import type { VolumeService } from '../../../../agent/volume/volume-service.ts';
import { UnderstudyError } from '../../../../common/errors.ts';

/** Volumes that exist in memory only, with as much behaviour as the API can show. */
export class MemoryVolumes implements VolumeService {
  readonly views = new Map<string, VolumeView>();
  /** What `put` got, in order. */
  readonly specs: VolumeSpec[] = [];
  /** Thrown by the next call, once. */
  failure: unknown;

  async list(): Promise<VolumeView[]> {
    this.#failOnce();
    return [...this.views.values()];
  }

  async get(volume: string): Promise<VolumeView> {
    this.#failOnce();
    const view = this.views.get(volume);
    if (!view) throw new UnderstudyError('NotFound', `there is no volume "${volume}"`);
    return view;
  }

  async put(volume: string, spec: VolumeSpec): Promise<{ created: boolean; view: VolumeView }> {
    this.#failOnce();
    this.specs.push(spec);
    const before = this.views.get(volume);
    if (before && spec.epoch < before.epoch) {
      throw new UnderstudyError('Conflict', `epoch ${spec.epoch} is below ${before.epoch}`);
    }
    const view = viewOf(volume, spec);
    this.views.set(volume, view);
    return { created: before === undefined, view };
  }

  async delete(volume: string): Promise<void> {
    this.#failOnce();
    this.views.delete(volume);
  }

  async prepare(volume: string, epoch: number): Promise<PrepareResult> {
    const view = await this.get(volume);
    this.views.set(volume, { ...view, prepared: epoch });
    return { epoch, clean: view.clean, consistent: view.consistent, dataEpoch: view.epoch };
  }

  async restore(volume: string, { name, snapshot }: RestoreRequest): Promise<VolumeView> {
    const view = await this.get(volume);
    const restore = { name, snapshot, state: 'Running' as const, startedAt: '2026-11-24T08:00:00.000Z' };
    const restored = { ...view, restore };
    this.views.set(volume, restored);
    return restored;
  }

  async giveUpRestore(volume: string): Promise<void> {
    const { restore: _, ...view } = await this.get(volume);
    this.views.set(volume, view);
  }

  async verify(volume: string, { repair }: VerificationRequest): Promise<VolumeView> {
    const view = await this.get(volume);
    const verification = {
      ...{ state: 'Running' as const, startedAt: '2026-11-24T08:00:00.000Z', totalBytes: view.size, verifiedBytes: 0 },
      ...{ differingBytes: 0, differing: [], truncated: false, repair },
    };
    const verified = { ...view, mirrors: view.mirrors.map((mirror) => ({ ...mirror, verification })) };
    this.views.set(volume, verified);
    return verified;
  }

  async stopVerification(volume: string): Promise<void> {
    await this.get(volume);
  }

  async holdAcknowledgements(volume: string, attempt: string): Promise<GroupHoldView> {
    await this.get(volume);
    return { attempt, state: 'Holding', heldMs: 0 };
  }

  async releaseAcknowledgements(volume: string, attempt: string): Promise<GroupHoldView> {
    await this.get(volume);
    return { attempt, state: 'Released', heldMs: 1 };
  }

  async putSnapshot(volume: string, snapshot: string, request: SnapshotRequest): Promise<SnapshotView> {
    const { snapshots } = await this.get(volume);
    const before = snapshots.find(({ name }) => name === snapshot);
    if (before) return before;
    const taken: SnapshotView = {
      name: snapshot,
      state: request.lull ? 'Waiting' : 'Ready',
      valid: true,
      bufferBytes: 0,
      exclusiveBytes: 0,
      readers: 0,
    };
    snapshots.push(taken);
    return taken;
  }

  async getSnapshot(volume: string, snapshot: string): Promise<SnapshotView> {
    const found = (await this.get(volume)).snapshots.find(({ name }) => name === snapshot);
    if (!found) throw new UnderstudyError('NotFound', `volume "${volume}" has no snapshot "${snapshot}"`);
    return found;
  }

  async holdSnapshot(volume: string, snapshot: string): Promise<SnapshotView> {
    const held = await this.getSnapshot(volume, snapshot);
    const reading = { ...held, readers: 1 };
    const view = await this.get(volume);
    const snapshots = view.snapshots.map((other) => (other === held ? reading : other));
    this.views.set(volume, { ...view, snapshots });
    return reading;
  }

  async releaseSnapshot(volume: string, snapshot: string): Promise<void> {
    const held = await this.getSnapshot(volume, snapshot);
    const view = await this.get(volume);
    const snapshots = view.snapshots.map((other) => (other === held ? { ...held, readers: 0 } : other));
    this.views.set(volume, { ...view, snapshots });
  }

  async deleteSnapshot(volume: string, snapshot: string): Promise<void> {
    const view = await this.get(volume);
    this.views.set(volume, { ...view, snapshots: view.snapshots.filter(({ name }) => name !== snapshot) });
  }

  #failOnce(): void {
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
  }
}

/** Mounts that exist in memory only. */
export class MemoryMounts implements MountService {
  readonly views: MountView[] = [];

  async list(): Promise<MountView[]> {
    return this.views;
  }

  async mountVolume(volume: string, mount: string, { target, fsType, readOnly }: VolumeMount): Promise<MountView> {
    return this.#add({ mount, volume, target, device: '/dev/nbd0', fsType, readOnly });
  }

  async mountSnapshot(volume: string, snapshot: string, mount: string, request: SnapshotMount): Promise<MountView> {
    return this.#add({
      mount,
      volume,
      snapshot,
      target: request.target,
      device: '/dev/nbd1',
      fsType: 'ext4',
      readOnly: true,
    });
  }

  async unmount(volume: string, mount: string): Promise<void> {
    const index = this.views.findIndex((view) => view.volume === volume && view.mount === mount);
    if (index >= 0) this.views.splice(index, 1);
  }

  #add(view: MountView): MountView {
    this.views.push(view);
    return view;
  }
}

function viewOf(volume: string, spec: VolumeSpec): VolumeView {
  return {
    volume,
    role: spec.role,
    epoch: spec.epoch,
    size: spec.size,
    blockSize: spec.blockSize,
    pool: spec.pool,
    state: 'Ready',
    nbd: `/run/understudy/nbd/${volume}.sock`,
    consistent: true,
    clean: true,
    attached: false,
    mirrors: spec.mirrors.map((mirror) => ({ ...mirror, state: 'InSync', dirtyBytes: 0, lagBytes: 0 })),
    snapshots: [],
    ...(spec.buffer && {
      buffer: {
        pool: spec.buffer.pool,
        usedBytes: 0,
        capacityBytes: spec.buffer.capacity,
        maxSnapshots: spec.buffer.maxSnapshots,
      },
    }),
  };
}
