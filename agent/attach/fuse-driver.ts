/**
 * Attaches an NBD export where the kernel has no nbd driver: nbdfuse shows the export as a file, and a loop device makes
 * a block device of that file.
 *
 *   <directory>/<name>/                 FUSE mount of nbdfuse
 *   <directory>/<name>/<name>.<tag>     the export as a file; a loop device is bound to it
 *   <directory>/<name>.log              what nbdfuse wrote
 *
 * The tag is derived from the node and the directory. The kernel has one set of loop devices for all mount namespaces,
 * so it is by the tag that an agent knows its own from those of another agent on the same kernel, and finds them even if
 * the file system they are bound to is no longer mounted anywhere.
 *
 * nbdfuse does not reconnect: when the agent ends, its NBD server with it, all I/O fails from then on. nbdfuse runs in a
 * session of its own nonetheless, so that a Ctrl-C meant for the agent does not take the device away before the agent
 * has unmounted it. After a restart of the agent such an attachment can only be undone.
 *
 * All data passes through a user process on the same machine. Under extreme memory pressure the kernel may need memory
 * to write back pages through a process that waits for memory; the kernel nbd driver is the better choice where it
 * exists.
 */
import { createHash } from 'node:crypto';
import { access, mkdir, readdir, realpath, rm, rmdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Clock } from '../../common/clock.ts';
import { errorMessage, systemErrorCode, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { Commands, Daemon } from './commands.ts';
import type { AttachDriver, PresentAttachment } from './driver.ts';
import type { AttachableExport } from './export-source.ts';
import { type LoopDevice, readIfThere, readLoopDevices, readMounts, readProcesses } from './host-state.ts';
import { poll } from './poll.ts';

export interface FuseDriverOptions {
  /** Below the agent's run directory; created if needed. */
  readonly directory: string;
  /** Name of this node, unique among the agents on one kernel. */
  readonly node: string;
  readonly commands: Commands;
  readonly clock: Clock;
  readonly log: Log;
  /** How long detach waits for others to close the device; udev, for one, looks at every new device. */
  readonly releaseTimeoutMs?: number;
}

/** What there is of one attachment. */
interface Remains {
  readonly loops: readonly LoopDevice[];
  readonly mounted: boolean;
  readonly processes: readonly number[];
}

const readyTimeoutMs = 30_000;
const commandTimeoutMs = 10_000;

export class FuseDriver implements AttachDriver {
  readonly kind = 'fuse';
  readonly survivesRestart = false;
  readonly #directory: string;
  readonly #tag: string;
  readonly #commands: Commands;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #releaseTimeoutMs: number;

  /** Creates the directory if needed. */
  static async open(options: FuseDriverOptions): Promise<FuseDriver> {
    await mkdir(options.directory, { recursive: true, mode: 0o700 });
    // The kernel shows mount points without the symbolic links that led to them.
    return new FuseDriver({ ...options, directory: await realpath(options.directory) });
  }

  private constructor(options: FuseDriverOptions) {
    this.#directory = options.directory;
    this.#tag = createHash('sha256').update(`${options.node}\0${options.directory}`).digest('hex').slice(0, 12);
    this.#commands = options.commands;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#releaseTimeoutMs = options.releaseTimeoutMs ?? 10_000;
  }

  async unusable(): Promise<string | undefined> {
    for (const device of ['/dev/fuse', '/dev/loop-control']) {
      if (!(await exists(device))) return `there is no ${device}`;
    }
    for (const program of ['nbdfuse', 'losetup', 'umount']) {
      if ((await this.#commands.find(program)) === undefined) return `the program ${program} is not installed`;
    }
    return undefined;
  }

  async attach(target: AttachableExport, options: { name: string }): Promise<{ device: string }> {
    const { name } = options;
    await mkdir(this.#mountPoint(name), { recursive: true, mode: 0o700 });
    await this.#startNbdfuse(target, name);
    const device = await this.#bindLoopDevice(target, name);
    const loop = (await readLoopDevices()).find((candidate) => candidate.device === device);
    if (loop?.sizeBytes !== target.sizeBytes) {
      throw new UnderstudyError('Io', `${device} has ${loop?.sizeBytes} bytes, expected ${target.sizeBytes}`);
    }
    this.#log.info({ attachment: name, device, export: target.exportName }, 'attached');
    return { device };
  }

  async #startNbdfuse(target: AttachableExport, name: string): Promise<void> {
    const readOnly = target.readOnly ? ['--readonly'] : [];
    const args = [...readOnly, this.#file(name), nbdUri(target)];
    const process = await this.#commands.startDaemon('nbdfuse', args, { outputFile: this.#logFile(name) });
    const ready = await poll({ clock: this.#clock, timeoutMs: readyTimeoutMs }, async () => {
      if (await this.#isMounted(name)) return true;
      return process.ended === undefined ? undefined : false;
    });
    if (ready !== true) throw await this.#startFailure(target, name, process);
  }

  async #startFailure(target: AttachableExport, name: string, process: Daemon): Promise<UnderstudyError> {
    const output = ((await readIfThere(this.#logFile(name))) ?? '').trim();
    const what = process.ended ?? `not ready after ${readyTimeoutMs} ms`;
    return new UnderstudyError(
      process.ended === undefined ? 'Timeout' : 'Io',
      `nbdfuse could not attach export "${target.exportName}" of ${target.socket}: ${output || what}`,
    );
  }

  async #bindLoopDevice(target: AttachableExport, name: string): Promise<string> {
    // Direct I/O: the file system above has its cache, the volume below its own; a third between them only costs memory.
    const args = ['--find', '--show', '--direct-io=on', `--sector-size=${target.blockSize}`];
    if (target.readOnly) args.push('--read-only');
    const { stdout } = await this.#commands.run('losetup', [...args, this.#file(name)]);
    const device = stdout.trim();
    // A loop device that an earlier user has set read-only (BLKROSET) stays so for the next one.
    if (!target.readOnly) await this.#commands.run('blockdev', ['--setrw', device]);
    return device;
  }

  /** nbdfuse keeps the size that the export had when it connected: only the loop device on it can follow. */
  async grow(target: AttachableExport, { name }: { name: string }): Promise<void> {
    for (const { device, sizeBytes } of (await this.#remains(name)).loops) {
      if (sizeBytes === target.sizeBytes) continue;
      await this.#commands.run('losetup', ['--set-capacity', device]);
      const grown = (await readLoopDevices()).find((loop) => loop.device === device);
      if (grown?.sizeBytes === target.sizeBytes) continue;
      const message = `${device} has ${sizeBytes} bytes and cannot grow while it is in use: unmount it, and mount it again`;
      throw new UnderstudyError('NotReady', message);
    }
  }

  async detach(name: string): Promise<void> {
    const done = await this.#undo(name, { timeoutMs: this.#releaseTimeoutMs });
    if (done) return;
    const { loops, mounted } = await this.#remains(name);
    // All that is left is an nbdfuse that does not end. It serves nobody any more, and it wrote through.
    if (loops.length === 0 && !mounted) {
      await this.abandon(name);
      return;
    }
    const devices = loops.map((loop) => loop.device).join(', ');
    const message = devices ? `${devices} is still open` : `${this.#mountPoint(name)} is still in use`;
    throw new UnderstudyError('InUse', `attachment ${name} cannot be undone: ${message}`, { labels: { name } });
  }

  async cut(name: string): Promise<void> {
    for (const pid of (await this.#remains(name)).processes) killIfThere(pid);
  }

  async abandon(name: string): Promise<{ remaining: string[] }> {
    await this.cut(name);
    const done = await this.#undo(name, { timeoutMs: 2_000 });
    if (done) return { remaining: [] };
    // The loop devices that others keep open hold the FUSE file system; with nbdfuse gone both are mere names.
    await this.cut(name);
    if (await this.#isMounted(name)) await this.#try('umount', ['--lazy', this.#mountPoint(name)]);
    await this.#removeFiles(name);
    const { loops } = await this.#remains(name);
    return { remaining: loops.map((loop) => loop.device) };
  }

  /**
   * Undoes whatever there is, step by step in reverse, looking again after each: a command that a killed agent had
   * started may still be about to finish. True when nothing is left.
   */
  async #undo(name: string, options: { timeoutMs: number }): Promise<boolean> {
    const done = await poll({ clock: this.#clock, timeoutMs: options.timeoutMs }, async () => {
      const { loops, mounted, processes } = await this.#remains(name);
      if (loops.length > 0) {
        for (const loop of loops) {
          if (!loop.autoclear) await this.#try('losetup', ['--detach', loop.device]);
        }
        return undefined;
      }
      if (mounted) {
        await this.#try('umount', [this.#mountPoint(name)]);
        return undefined;
      }
      // Once unmounted it flushes and ends; one that has not mounted yet must not do so any more.
      if (processes.length > 0) {
        await this.#removeFiles(name);
        return undefined;
      }
      return (await this.#removeFiles(name)) || undefined;
    });
    if (done) this.#log.info({ attachment: name }, 'detached');
    return done ?? false;
  }

  async list(): Promise<PresentAttachment[]> {
    const [files, mounts, loops, processes] = await Promise.all([
      this.#listDirectory(),
      readMounts(),
      readLoopDevices(),
      readProcesses(),
    ]);
    const suffix = `.${this.#tag}`;
    const names = new Set([
      ...files.map((file) => file.replace(/\.log$/, '')),
      ...[...loops.map((loop) => loop.backingFile), ...processes.flatMap(nbdfuseFile)]
        .map((file) => basename(file))
        .filter((file) => file.endsWith(suffix))
        .map((file) => file.slice(0, -suffix.length)),
    ]);
    return [...names].sort().map((name) => {
      const devices = loops.filter((loop) => this.#isOurs(loop, name)).map((loop) => loop.device);
      const served = processes.some((process) => nbdfuseFile(process).includes(this.#file(name)));
      const mounted = mounts.some((entry) => entry.mountPoint === this.#mountPoint(name));
      return { name, devices, alive: devices.length === 1 && served && mounted };
    });
  }

  async #remains(name: string): Promise<Remains> {
    const [loops, mounted, processes] = await Promise.all([readLoopDevices(), this.#isMounted(name), readProcesses()]);
    return {
      loops: loops.filter((loop) => this.#isOurs(loop, name)),
      mounted,
      processes: processes
        .filter((process) => nbdfuseFile(process).includes(this.#file(name)))
        .map((process) => process.pid),
    };
  }

  async #isMounted(name: string): Promise<boolean> {
    return (await readMounts()).some((entry) => entry.mountPoint === this.#mountPoint(name));
  }

  #isOurs(loop: LoopDevice, name: string): boolean {
    return basename(loop.backingFile) === `${name}.${this.#tag}`;
  }

  async #listDirectory(): Promise<string[]> {
    try {
      return await readdir(this.#directory);
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT') return [];
      throw error;
    }
  }

  /** True when they are gone; false while something is mounted there. */
  async #removeFiles(name: string): Promise<boolean> {
    try {
      await rmdir(this.#mountPoint(name));
    } catch (error) {
      if (systemErrorCode(error) !== 'ENOENT') return false;
    }
    await rm(this.#logFile(name), { force: true });
    return true;
  }

  /** For steps of which the outcome is looked at afterwards anyway. */
  async #try(program: string, args: readonly string[]): Promise<void> {
    try {
      await this.#commands.run(program, args, { timeoutMs: commandTimeoutMs });
    } catch (error) {
      this.#log.debug({ program }, errorMessage(error));
    }
  }

  #mountPoint(name: string): string {
    return join(this.#directory, name);
  }

  #file(name: string): string {
    return join(this.#mountPoint(name), `${name}.${this.#tag}`);
  }

  #logFile(name: string): string {
    return join(this.#directory, `${name}.log`);
  }
}

/** Source: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md */
export function nbdUri(target: { socket: string; exportName: string }): string {
  return `nbd+unix:///${encodeURIComponent(target.exportName)}?socket=${encodeURIComponent(target.socket)}`;
}

/** The file that an nbdfuse process was told to serve; none for any other process. */
function nbdfuseFile(process: { command: readonly string[] }): string[] {
  const [program = '', ...args] = process.command;
  return basename(program) === 'nbdfuse' ? args.filter((arg) => arg.startsWith('/')) : [];
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (systemErrorCode(error) !== 'ESRCH') throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
