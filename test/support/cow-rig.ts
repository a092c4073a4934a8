import type { BlockDevice, Completion } from '../../agent/core/block-device.ts';
import { CowDevice, type CowDeviceOptions } from '../../agent/cow/cow-device.ts';
import type { SnapshotInfo } from '../../agent/cow/snapshot-info.ts';
import { FileDevice } from '../../agent/store/file-device.ts';
import { errorCode } from '../../common/errors.ts';
import { silentLog } from '../../common/log.ts';
import { ManualClock } from './manual-clock.ts';
import { Random } from './random.ts';
import { settle } from './settle.ts';
import { SimulatedDisk, SimulatedPower } from './simulated-storage.ts';
import { VolumeModel } from './volume-model.ts';

export interface CowRigOptions {
  readonly seed: number;
  readonly volumeBytes?: number;
  readonly capacityBytes?: number;
  readonly chunkSizeBytes?: number;
  readonly maxSnapshots?: number;
  /** How often the disks take their time, from 0 to 1. */
  readonly slowness?: number;
  readonly deadlineMs?: number;
  readonly indexRegionBytes?: number;
  /** Records losses on the volume's disk; true if not said otherwise. */
  readonly volumeDirectory?: boolean;
}

interface ModelSnapshot {
  readonly bytes: Uint8Array;
  readonly internal: boolean;
  state: 'taking' | 'ready' | 'deleting';
}

/** A CowDevice over simulated disks, beside a model that knows what it must hold. */
export class CowRig {
  readonly random: Random;
  readonly power = new SimulatedPower();
  readonly volumeDisk: SimulatedDisk;
  readonly bufferDisk: SimulatedDisk;
  readonly clock = new ManualClock();
  readonly model: VolumeModel;
  readonly snapshots = new Map<string, ModelSnapshot>();
  readonly lost: SnapshotInfo[] = [];
  readonly #options: CowRigOptions;
  readonly #volumeBytes: number;
  device!: CowDevice;
  base!: FileDevice;
  /** Operations under way, and what went wrong with those that are over. */
  readonly #running = new Set<Promise<void>>();
  readonly failures: unknown[] = [];
  #life = 0;

  private constructor(options: CowRigOptions) {
    this.#options = options;
    this.random = new Random(options.seed);
    const disk = { power: this.power, random: this.random, slowness: options.slowness ?? 0 };
    this.volumeDisk = new SimulatedDisk(disk);
    this.bufferDisk = new SimulatedDisk(disk);
    this.#volumeBytes = options.volumeBytes ?? 64 * 1024;
    this.model = new VolumeModel(new Uint8Array(this.#volumeBytes));
  }

  static async open(options: CowRigOptions): Promise<CowRig> {
    const rig = new CowRig(options);
    await rig.start();
    return rig;
  }

  async start(override: Partial<CowDeviceOptions> = {}): Promise<void> {
    this.lost.length = 0;
    this.#life += 1;
    const life = this.#life;
    const volume = this.volumeDisk.mount();
    const file = await volume.open('data', { create: { size: this.#volumeBytes, space: 'sparse' } });
    this.base = new FileDevice({ file, blockSize: 512, provisioning: 'sparse' });
    this.device = await CowDevice.open({
      base: this.base,
      directory: this.bufferDisk.mount(),
      ...(this.#options.volumeDirectory === false ? {} : { volumeDirectory: volume }),
      name: 'v',
      capacityBytes: this.#options.capacityBytes ?? 1024 * 1024,
      maxSnapshots: this.#options.maxSnapshots ?? 32,
      chunkSizeBytes: this.#options.chunkSizeBytes ?? 4096,
      indexRegionBytes: this.#options.indexRegionBytes ?? 1024 * 1024,
      deadlineMs: this.#options.deadlineMs ?? 1e9,
      clock: this.clock,
      log: silentLog,
      onInvalidated: (snapshot) => {
        if (life === this.#life) this.lost.push(snapshot);
      },
      ...override,
    });
  }

  write(offset: number, data: Uint8Array, fua = false): void {
    const operation = this.model.write(offset, data);
    this.#run(this.device.write(offset, data, { fua }), () => {
      operation.done = true;
    });
  }

  writeRandomly(offset: number, length: number): void {
    this.write(offset, this.random.bytes(length));
  }

  zero(offset: number, length: number, how: 'trim' | 'writeZeroes'): void {
    const operation = this.model.write(offset, new Uint8Array(length));
    this.#run(how === 'trim' ? this.device.trim(offset, length) : this.device.writeZeroes(offset, length), () => {
      operation.done = true;
    });
  }

  flush(): void {
    const flushed = this.model.flush(false);
    this.#run(this.device.flush(), flushed);
  }

  /** Reads now, and compares later with what the model has now. */
  checkRead(offset: number, length: number): void {
    const expected = this.model.bytes.slice(offset, offset + length);
    const target = new Uint8Array(length);
    this.#run(this.device.read(offset, target), () => {
      expectEqual(target, expected, `live at ${offset}`);
    });
  }

  take(name: string, internal = false): void {
    const life = this.#life;
    const snapshot: ModelSnapshot = { bytes: this.model.bytes.slice(), internal, state: 'taking' };
    const flushed = this.model.flush(true);
    if (this.snapshots.has(name)) throw new Error(`the rig has a snapshot ${name} already`);
    this.snapshots.set(name, snapshot);
    const taking = this.device.takeSnapshot(name, { takenAt: '2020-01-01T00:00:00Z', internal });
    this.#run(
      taking.then(() => {}),
      () => {
        snapshot.state = 'ready';
        flushed();
      },
      // Refused, or lost again before it was ready: it is not there.
      () => {
        if (life === this.#life && !this.power.isOff) this.snapshots.delete(name);
      },
    );
  }

  delete(name: string): void {
    const snapshot = this.snapshots.get(name);
    if (snapshot?.state !== 'ready') return;
    snapshot.state = 'deleting';
    this.#run(this.device.deleteSnapshot(name), () => this.snapshots.delete(name));
  }

  /** What a snapshot reads as, or the code of the error with which it refuses. */
  async readSnapshot(name: string, pieceBytes = 8192): Promise<Uint8Array | string> {
    let reader: BlockDevice | undefined;
    try {
      reader = this.device.openSnapshot(name);
      const content = new Uint8Array(reader.size);
      for (let offset = 0; offset < reader.size; offset += pieceBytes) {
        await reader.read(offset, content.subarray(offset, Math.min(offset + pieceBytes, reader.size)));
      }
      return content;
    } catch (error) {
      return errorCode(error);
    } finally {
      await reader?.close();
    }
  }

  /**
   * Ready snapshots must read as they were taken. With `losses`, they may also be listed as invalid and refuse; with
   * "full", for every reason but a wrong checksum.
   */
  async checkSnapshots(losses: boolean | 'full' = false): Promise<void> {
    for (const [name, snapshot] of this.snapshots) {
      if (snapshot.state !== 'ready') continue;
      const content = await this.readSnapshot(name);
      const { reason = '' } = this.device.snapshot(name) ?? {};
      if (reason.includes('checksum') && losses !== true) throw new Error(`snapshot ${name} is damaged: ${reason}`);
      if (typeof content !== 'string') expectEqual(content, snapshot.bytes, `snapshot ${name}`);
      else if (!losses || this.device.snapshot(name)?.state !== 'Invalid') {
        throw new Error(
          `snapshot ${name} refuses to be read: ${content}, ${JSON.stringify(this.device.snapshot(name))}`,
        );
      }
    }
  }

  async checkLive(): Promise<void> {
    const content = new Uint8Array(this.model.bytes.length);
    await this.device.read(0, content);
    expectEqual(content, this.model.bytes, 'live');
  }

  /** Chunks that differ from a snapshot must be reported as changed. */
  checkChanged(since: string, until?: string): void {
    const old = this.snapshots.get(since);
    const now = until === undefined ? this.model.bytes : this.snapshots.get(until)?.bytes;
    if (!old || !now || this.device.snapshot(since)?.state !== 'Ready') return;
    let offset = 0;
    for (const { length, dirty } of this.device.changedExtents(since, 0, old.bytes.length, until)) {
      const same =
        Buffer.compare(old.bytes.subarray(offset, offset + length), now.subarray(offset, offset + length)) === 0;
      if (!dirty && !same) throw new Error(`${offset}+${length} is said not to differ between ${since} and ${until}`);
      offset += length;
    }
    if (offset !== old.bytes.length) throw new Error('the extents do not cover the range');
  }

  /** Waits for everything under way. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
    await settle();
  }

  /** Ends the process and starts it again; with `power`, unsynced writes are lost. */
  async crash(how: 'power' | 'kill'): Promise<void> {
    this.#life += 1;
    for (const disk of [this.volumeDisk, this.bufferDisk]) {
      if (how === 'power') disk.crash();
      else disk.kill();
    }
    this.power.restore();
    await this.idle();
    this.failures.length = 0;
    await this.start();
    await this.#adopt(how);
  }

  async restart(): Promise<void> {
    await this.idle();
    if (this.power.isOff) return this.crash('power');
    const closed = this.model.flush(true);
    try {
      await this.device.close();
      closed();
      await this.start();
    } catch (error) {
      if (!this.power.isOff) throw error;
      await this.crash('power');
    }
  }

  /** Compares what is there after a crash with what may be, and takes it over. */
  async #adopt(how: 'power' | 'kill'): Promise<void> {
    const content = new Uint8Array(this.model.bytes.length);
    await this.device.read(0, content);
    const wrong = this.model.crashedInto(content, how);
    if (wrong !== undefined) throw new Error(`after the crash sector ${wrong} holds what was never written to it`);
    for (const [name, snapshot] of this.snapshots) {
      const found = this.device.snapshot(name);
      if (snapshot.state === 'ready' && !found) throw new Error(`snapshot ${name} is gone after the crash`);
      if (found?.state === 'Pending') throw new Error(`snapshot ${name} is pending after the crash`);
      if (found) snapshot.state = 'ready';
      else this.snapshots.delete(name);
    }
    for (const found of this.device.listSnapshots({ internal: true })) {
      if (!this.snapshots.has(found.name)) throw new Error(`snapshot ${found.name} has come back`);
    }
  }

  #run(completion: Completion, done: () => void, failed: (error: unknown) => void = () => {}): void {
    if (completion === undefined) return done();
    const running = completion
      .then(done)
      .catch((error: unknown) => {
        this.failures.push(error);
        failed(error);
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }
}

/** Faster than a deep comparison, and says where the first difference is. */
export function expectEqual(actual: Uint8Array, expected: Uint8Array, what: string): void {
  if (Buffer.compare(actual, expected) === 0) return;
  const at = expected.findIndex((byte, index) => byte !== actual[index]);
  throw new Error(`${what}: differs from byte ${at} on (${actual.length} bytes, expected ${expected.length})`);
}
