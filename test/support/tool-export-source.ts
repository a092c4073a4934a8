import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { access, mkdir, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { AttachableExport, ExportSource, VolumeBinding } from '../../agent/attach/export-source.ts';
import { UnderstudyError } from '../../common/errors.ts';
import { waitFor } from './wait-for.ts';

export interface ToolExportSourceOptions {
  /** Holds <volume>.raw, <volume>@<snapshot>.raw, overlays, sockets, and a file for each running server. */
  readonly directory: string;
  readonly blockSize?: number;
}

/**
 * Exports plain files through qemu-nbd, scratch views with a qcow2 overlay between. The servers are processes of their own; killServers ends also those that an earlier, killed user of the
 * same directory has left, as the death of an agent ends its own server.
 */
export class ToolExportSource implements ExportSource {
  readonly #directory: string;
  readonly #blockSize: number;
  readonly #running = new Map<string, ChildProcess>();
  /** Of every volume. */
  binding: VolumeBinding | undefined = { uid: 'uid-1', epoch: 1 };

  constructor(options: ToolExportSourceOptions) {
    this.#directory = options.directory;
    this.#blockSize = options.blockSize ?? 512;
  }

  async createVolume(volume: string, sizeBytes: number): Promise<void> {
    await mkdir(this.#directory, { recursive: true });
    await writeFile(this.volumeFile(volume), '');
    await truncate(this.volumeFile(volume), sizeBytes);
  }

  /** What a power cut would leave now: the data as it is in the file, without unmounting or syncing anything. */
  copyToSnapshot(volume: string, snapshot: string): void {
    execFileSync('cp', ['--sparse=always', this.volumeFile(volume), this.#snapshotFile(volume, snapshot)]);
  }

  volumeFile(volume: string): string {
    return join(this.#directory, `${volume}.raw`);
  }

  async overlays(): Promise<string[]> {
    return (await readdir(this.#directory)).filter((name) => name.endsWith('.qcow2'));
  }

  async liveExport(volume: string): Promise<AttachableExport> {
    const file = this.volumeFile(volume);
    const sizeBytes = await sizeOf(file);
    const socket = join(this.#directory, `${volume}.sock`);
    await this.#serve(`live-${volume}`, { socket, exportName: volume, file, format: 'raw' });
    const binding = this.binding ?? { uid: 'uid-1', epoch: 1 };
    return { socket, exportName: volume, sizeBytes, blockSize: this.#blockSize, readOnly: false, binding };
  }

  async liveBinding(): Promise<VolumeBinding | undefined> {
    return this.binding;
  }

  async isBlank(volume: string): Promise<boolean> {
    return (await stat(this.volumeFile(volume))).blocks === 0;
  }

  async openScratch(volume: string, snapshot: string, mount: string): Promise<AttachableExport> {
    const base = this.#snapshotFile(volume, snapshot);
    const sizeBytes = await sizeOf(base);
    const overlay = this.#overlayFile(volume, snapshot, mount);
    if (!(await exists(overlay))) {
      execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', base, overlay]);
    }
    const exportName = `${volume}@${snapshot}/${mount}`;
    const socket = `${overlay}.sock`;
    const key = this.#scratchKey(volume, snapshot, mount);
    await this.#serve(key, { socket, exportName, file: overlay, format: 'qcow2' });
    return { socket, exportName, sizeBytes, blockSize: this.#blockSize, readOnly: false };
  }

  async releaseScratch(volume: string, snapshot: string, mount: string): Promise<void> {
    await this.#stop(this.#scratchKey(volume, snapshot, mount));
    await rm(this.#overlayFile(volume, snapshot, mount), { force: true });
    await rm(`${this.#overlayFile(volume, snapshot, mount)}.sock`, { force: true });
  }

  async killServers(): Promise<void> {
    const names = await readdir(this.#directory);
    for (const name of names.filter((file) => file.endsWith('.pid'))) await this.#stop(name.slice(0, -'.pid'.length));
  }

  async #serve(
    key: string,
    served: { socket: string; exportName: string; file: string; format: string },
  ): Promise<void> {
    const child = this.#running.get(key);
    if (child && child.exitCode === null && child.signalCode === null) return;
    await this.#stop(key);
    const { socket, exportName, file, format } = served;
    await rm(socket, { force: true });
    const options = [
      '--persistent',
      '--shared=8',
      '--discard=unmap',
      `--format=${format}`,
      '-x',
      exportName,
      '-k',
      socket,
    ];
    const started = spawn('qemu-nbd', [...options, file], { stdio: 'ignore', detached: true });
    this.#running.set(key, started);
    await writeFile(this.#pidFile(key), String(started.pid));
    started.unref();
    await waitFor(() => exists(socket), { timeoutMs: 10_000, what: `qemu-nbd to listen on ${socket}` });
  }

  async #stop(key: string): Promise<void> {
    const child = this.#running.get(key);
    this.#running.delete(key);
    const pid = Number(await readFile(this.#pidFile(key), 'utf8').catch(() => ''));
    if (pid > 0) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended before.
      }
      await waitFor(() => (child ? child.exitCode !== null || child.signalCode !== null : hasEnded(pid)), {
        timeoutMs: 10_000,
        what: `the end of process ${pid}`,
      });
    }
    await rm(this.#pidFile(key), { force: true });
  }

  #scratchKey(volume: string, snapshot: string, mount: string): string {
    return `scratch-${volume}@${snapshot}.${mount}`;
  }

  #snapshotFile(volume: string, snapshot: string): string {
    return join(this.#directory, `${volume}@${snapshot}.raw`);
  }

  #overlayFile(volume: string, snapshot: string, mount: string): string {
    return join(this.#directory, `${volume}@${snapshot}.${mount}.qcow2`);
  }

  #pidFile(key: string): string {
    return join(this.#directory, `${key}.pid`);
  }
}

async function sizeOf(file: string): Promise<number> {
  const stats = await stat(file).catch(() => undefined);
  if (stats === undefined) throw new UnderstudyError('NotFound', `there is no ${file}`);
  return stats.size;
}

/** A process that nobody reaps stays listed, without a command line. */
async function hasEnded(pid: number): Promise<boolean> {
  const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return command === '';
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
