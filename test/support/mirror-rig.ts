import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import type { MirrorSpec } from '../../agent/api/contract/volumes.ts';
import type { Connection } from '../../agent/core/connection.ts';
import type { Arbiter } from '../../agent/mirror/arbiter.ts';
import { noArbiter } from '../../agent/mirror/arbiter.ts';
import { IntentBitmap } from '../../agent/mirror/intent-bitmap.ts';
import { MirrorDevice } from '../../agent/mirror/mirror-device.ts';
import type { MirrorRecord, MirrorTiming } from '../../agent/mirror/mirror-link-options.ts';
import { StreamJournal } from '../../agent/mirror/stream-journal.ts';
import { TcpConnection } from '../../agent/mirror/tcp-connection.ts';
import { DiskDirectory } from '../../agent/store/disk-directory.ts';
import { StandbyCopyOfVolume } from '../../agent/volume/standby-copy.ts';
import { RecordStore, type VolumeRecord } from '../../agent/volume/volume-record.ts';
import { systemClock } from '../../common/clock.ts';
import { type Log, silentLog } from '../../common/log.ts';
import { MemoryDevice } from './memory-device.ts';
import { waitFor } from './wait-for.ts';

export const fastTiming: MirrorTiming = {
  acknowledgementTimeoutMs: 600,
  heartbeatMs: 100,
  reconnectMs: 10,
  arbiterRetryMs: 50,
  coldRegionMs: 0,
};

export const volumeSize = 8 * 1024 * 1024;

function recordOf(role: 'primary' | 'standby', epoch: number): VolumeRecord {
  return {
    volume: 'v',
    uid: 'u',
    role,
    epoch,
    size: volumeSize,
    blockSize: 512,
    pool: 'main',
    provisioning: 'thick',
    mirrors: [],
    onLoss: 'suspend',
    mirrorRecords: [],
    standby: { blank: true, consistent: true, clean: false, dataEpoch: 0 },
    created: true,
    running: true,
  };
}

/** A standby behind a TCP port, whose link can be cut, stalled and refused. */
export class StandbyRig {
  device: MemoryDevice;
  readonly store: RecordStore;
  copy: StandbyCopyOfVolume;
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();
  reachable = true;
  /** Links that it has had so far. */
  links = 0;

  private constructor(device: MemoryDevice, store: RecordStore) {
    this.device = device;
    this.store = store;
    this.copy = this.#makeCopy();
    this.#server = net.createServer((socket) => {
      if (!this.reachable) return void socket.destroy();
      this.#sockets.add(socket);
      this.links += 1;
      socket.on('close', () => this.#sockets.delete(socket));
      this.copy.accept(new TcpConnection(socket));
    });
  }

  static async start(directory: string, epoch = 1): Promise<StandbyRig> {
    const store = new RecordStore(await DiskDirectory.open(directory), recordOf('standby', epoch));
    const rig = new StandbyRig(new MemoryDevice(volumeSize), store);
    await new Promise<void>((resolve) => rig.#server.listen(0, '127.0.0.1', resolve));
    return rig;
  }

  /** It has a link now. */
  get linked(): boolean {
    return this.#sockets.size > 0;
  }

  get address(): string {
    const address = this.#server.address();
    return typeof address === 'object' && address ? `127.0.0.1:${address.port}` : '';
  }

  cut(): void {
    this.reachable = false;
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Stops reading, as a process that hangs. */
  stall(): void {
    for (const socket of this.#sockets) {
      socket.removeAllListeners('data');
      socket.pause();
    }
  }

  /** The process dies: what it held and had not applied is gone, what was applied stays. */
  restart(): void {
    this.cut();
    void this.store.update((record) => ({ ...record, standby: { ...record.standby, clean: false } }));
    this.copy = this.#makeCopy();
    this.reachable = true;
  }

  replaceDevice(device: MemoryDevice): void {
    this.device = device;
    this.copy = this.#makeCopy();
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #makeCopy(): StandbyCopyOfVolume {
    // The stack's file is not used by the copy, only its top is.
    const stack = { file: undefined as never, cow: undefined, top: this.device, invalidated: { count: 0 } };
    return new StandbyCopyOfVolume(stack, this.store, silentLog, systemClock, () => undefined);
  }
}

export interface MirrorRigOptions {
  readonly standbys?: number;
  readonly arbiter?: Arbiter;
  readonly epoch?: number;
  readonly timing?: MirrorTiming;
  /** Asynchronous mirrors, with a journal of this size; 0: none. */
  readonly journalBytes?: number;
  readonly queueBytes?: number;
  readonly compression?: 'zstd';
}

/** A primary over a byte array with its standbys, connected by TCP on loopback. */
export class MirrorRig {
  readonly directory: string;
  readonly standbys: StandbyRig[] = [];
  local = new MemoryDevice(volumeSize);
  primary!: MirrorDevice;
  records: readonly MirrorRecord[] = [];
  fenced: string | undefined;
  /** What the primary has logged. */
  readonly messages: string[] = [];
  readonly #options: MirrorRigOptions;

  private constructor(directory: string, options: MirrorRigOptions) {
    this.directory = directory;
    this.#options = options;
  }

  static async start(options: MirrorRigOptions = {}): Promise<MirrorRig> {
    const rig = new MirrorRig(await mkdtemp(path.join(os.tmpdir(), 'mirror-rig-')), options);
    for (let index = 0; index < (options.standbys ?? 1); index += 1) {
      rig.standbys.push(await StandbyRig.start(path.join(rig.directory, `standby-${index}`)));
    }
    await rig.startPrimary();
    return rig;
  }

  get standby(): StandbyRig {
    const [standby] = this.standbys;
    if (!standby) throw new Error('no standby');
    return standby;
  }

  async startPrimary(): Promise<void> {
    const directory = await DiskDirectory.open(path.join(this.directory, 'primary'));
    const { journalBytes, queueBytes } = this.#options;
    const openJournal = async ({ name }: MirrorSpec) =>
      journalBytes
        ? StreamJournal.open({ directory, name: `journal-${name}`, capacityBytes: journalBytes }, silentLog)
        : undefined;
    this.primary = new MirrorDevice({
      base: this.local,
      intent: await IntentBitmap.open(directory, 'intent', volumeSize),
      identity: { volume: 'v', uid: 'u', epoch: this.#options.epoch ?? 1, size: volumeSize, blockSize: 512 },
      arbiter: this.#options.arbiter ?? noArbiter('suspend'),
      connect: connectTcp,
      clock: systemClock,
      timing: this.#options.timing ?? fastTiming,
      log: this.#log(),
      openJournal,
      ...(queueBytes === undefined ? {} : { queueBytes }),
      newBaseId: randomUUID,
      persist: async (records) => {
        this.records = records;
      },
      onFenced: (message) => {
        this.fenced = message;
      },
      onFailed: () => undefined,
    });
    const journals = new Map();
    for (const spec of this.specs) {
      const journal = spec.mode === 'asynchronous' ? await openJournal(spec) : undefined;
      if (journal) journals.set(spec.name, journal);
    }
    this.primary.start(this.specs, this.records, journals);
  }

  get specs(): MirrorSpec[] {
    const { journalBytes, compression } = this.#options;
    const mode = journalBytes === undefined ? ('synchronous' as const) : ('asynchronous' as const);
    return this.standbys.map((standby, index) => ({
      name: `mirror-${index}`,
      address: standby.address,
      mode,
      ...(compression ? { compression } : {}),
    }));
  }

  #log(): Log {
    const note = (_: object, message: string) => void this.messages.push(message);
    const log: Log = { debug: note, info: note, warn: note, error: note, child: () => log };
    return log;
  }

  state(index = 0): string {
    return this.primary.mirrors[index]?.state ?? 'none';
  }

  async inSync(): Promise<void> {
    await waitFor(() => this.primary.mirrors.every((mirror) => mirror.state === 'InSync'), { timeoutMs: 10_000 });
  }

  /** While in sync and idle, all copies hold the same, byte for byte. */
  async identical(): Promise<boolean> {
    for (;;) {
      await this.inSync();
      await this.primary.flush();
      const inSync = this.primary.mirrors.every((mirror) => mirror.state === 'InSync');
      // On a busy machine a standby can be overdue for a moment, and is brought in sync again.
      if (inSync) return this.standbys.every(({ device }) => Buffer.compare(this.local.bytes, device.bytes) === 0);
    }
  }

  async close(): Promise<void> {
    for (const standby of this.standbys) await standby.close();
    await this.primary.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}

export function connectTcp(address: string): Promise<Connection> {
  const [host = '', port = ''] = address.split(':');
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host, port: Number(port) });
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(new TcpConnection(socket));
    });
    socket.once('error', reject);
  });
}
