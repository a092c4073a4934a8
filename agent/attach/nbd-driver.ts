/**
 * Attaches an NBD export with the kernel's own client. The device outlives the agent: while its connection is dead, I/O
 * waits in the kernel, until the next agent connects it again.
 *
 * What makes that safe:
 * - Request timeout 0: the kernel never gives up a connection that is alive, however long a write takes. A timeout would
 *   make it send the same write again beside the first.
 * - One connection for each device. With several the driver, whatever the timeout, moves requests that take long to
 *   another connection.
 * - The dead-connection timeout is a number of years: waiting I/O fails when the device is cut, and not before.
 * - A connection is replaced only when it is dead: the kernel ignores a new one otherwise. The death of the agent's
 *   process is the death of its server's sockets, and what it had acknowledged is in its files.
 * - A device is bound to (uid, epoch), see nbd-identifier.
 *
 * Requests that were under way when a connection died are sent again when the kernel looks for requests that take long,
 * which it does every 30 s unless told otherwise; we tell it 5 s, as that is how long such a request may wait after a
 * restart. Each look at a request that still waits is a line in the kernel's log.
 *
 * The driver keeps the descriptor of each connection that this process has made, to be able to end one whose server has
 * stopped reading: a disconnect alone would wait for room in the socket.
 */
import { createHash } from 'node:crypto';
import { closeSync } from 'node:fs';
import { open, writeFile } from 'node:fs/promises';
import type { Clock } from '../../common/clock.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import { transmissionFlag } from '../nbd/constants.ts';
import { shutDown } from '../store/netlink-socket.ts';
import type { Commands } from './commands.ts';
import type { AttachDriver, PresentAttachment } from './driver.ts';
import { connectToExport, type ExportConnection } from './export-connection.ts';
import type { AttachableExport } from './export-source.ts';
import { type NbdDevice, readNbdDevices } from './nbd-devices.ts';
import { attachmentOf, encodeIdentifier } from './nbd-identifier.ts';
import { clientFlag, findNbdFamily, knowsIdentifiers, NbdControl, NbdEvents, type NbdFamily } from './nbd-netlink.ts';
import { poll } from './poll.ts';

export interface NbdDriverOptions {
  /** Tells this agent from others on the same kernel, together with the node: its state directory. */
  readonly directory: string;
  readonly node: string;
  readonly commands: Commands;
  readonly clock: Clock;
  readonly log: Log;
  /** How long detach waits for others to close the device; udev, for one, looks at every new device. */
  readonly releaseTimeoutMs?: number;
}

/** A connection that this process has made. */
interface Link {
  readonly index: number;
  readonly descriptor: number;
  /** The kernel has reported its end. */
  dead: boolean;
  /** The device goes away by itself when it is closed: it is no good for another use. */
  closing: boolean;
}

interface Kernel {
  readonly control: NbdControl;
  readonly events: NbdEvents;
}

const deadConnectionTimeoutSeconds = 10 * 365 * 24 * 3600;
const stuckRequestLookMs = 5_000;
const abandonTimeoutMs = 2_000;
const modprobeTimeoutMs = 10_000;

/** Of the flags of an export, what the kernel's client understands. */
const kernelFlags =
  transmissionFlag.hasFlags |
  transmissionFlag.readOnly |
  transmissionFlag.sendFlush |
  transmissionFlag.sendFua |
  transmissionFlag.sendTrim |
  transmissionFlag.sendWriteZeroes;

export class NbdDriver implements AttachDriver {
  readonly kind = 'nbd';
  readonly survivesRestart = true;
  readonly #tag: string;
  readonly #commands: Commands;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #releaseTimeoutMs: number;
  readonly #links = new Map<string, Link>();
  #kernel: Kernel | undefined;

  constructor(options: NbdDriverOptions) {
    this.#tag = createHash('sha256').update(`${options.node}\0${options.directory}`).digest('hex').slice(0, 12);
    this.#commands = options.commands;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#releaseTimeoutMs = options.releaseTimeoutMs ?? 10_000;
  }

  async unusable(): Promise<string | undefined> {
    try {
      const family = (await findNbdFamily()) ?? (await this.#load());
      if (typeof family === 'string') return family;
      return knowsIdentifiers(family) ? undefined : 'the kernel is older than Linux 5.14';
    } catch (error) {
      return errorMessage(error);
    }
  }

  /** Loads the kernel's module. Answers with the reason if there is none, or it cannot be reached. */
  async #load(): Promise<NbdFamily | string> {
    try {
      await this.#commands.run('modprobe', ['nbd'], { timeoutMs: modprobeTimeoutMs });
    } catch (error) {
      return `the kernel has no nbd driver loaded, and it cannot be loaded (${errorMessage(error)})`;
    }
    const family = await findNbdFamily();
    return family ?? "the kernel's nbd driver cannot be reached: the agent needs the host's network namespace";
  }

  async attach(target: AttachableExport, options: { name: string }): Promise<{ device: string }> {
    const { control } = await this.#opened();
    const connection = await this.#connection(target);
    let index: number;
    try {
      ({ index } = await control.connect({
        sizeBytes: target.sizeBytes,
        blockSize: target.blockSize,
        serverFlags: serverFlags(target, connection),
        deadConnectionTimeoutSeconds,
        identifier: encodeIdentifier(this.#tag, options.name, target.binding),
        descriptor: connection.descriptor,
      }));
    } catch (error) {
      closeSync(connection.descriptor);
      throw error;
    }
    this.#keep(options.name, index, connection);
    await writeFile(`/sys/block/nbd${index}/queue/io_timeout`, String(stuckRequestLookMs));
    const device = `/dev/nbd${index}`;
    this.#log.info({ attachment: options.name, device, export: target.exportName }, 'attached');
    return { device };
  }

  async reconnect(target: AttachableExport, options: { name: string }): Promise<void> {
    const { name } = options;
    const { control } = await this.#opened();
    const [found, ...more] = await this.#devices(name);
    if (found === undefined || more.length > 0) {
      throw new UnderstudyError('NotFound', `attachment ${name} has ${more.length + (found ? 1 : 0)} devices`);
    }
    const identifier = encodeIdentifier(this.#tag, name, target.binding);
    if (found.identifier !== identifier) {
      throw new UnderstudyError('Conflict', `${found.device} is "${found.identifier}", asked for is "${identifier}"`);
    }
    const { index, device } = found;
    const link = this.#links.get(name);
    if (link?.index === index && !link.dead) {
      await control.reconfigure({ index, identifier, clientFlags: clientFlag.none });
      link.closing = false;
      return;
    }
    const connection = await this.#connection(target);
    // What is reported from here on may be the new connection's end. If it was the old one's, which the kernel had not
    // noticed before, it has ignored the new one, and the next attempt will find that out.
    this.#noteDeaths();
    this.#keep(name, index, connection);
    try {
      await control.reconfigure({
        index,
        identifier,
        sizeBytes: target.sizeBytes,
        blockSize: target.blockSize,
        clientFlags: clientFlag.none,
        descriptor: connection.descriptor,
      });
    } catch (error) {
      this.#drop(name);
      throw error;
    }
    this.#log.info({ attachment: name, device, export: target.exportName }, 'connected again');
  }

  async grow(target: AttachableExport, options: { name: string }): Promise<void> {
    const [found] = await this.#devices(options.name);
    if (found === undefined) throw new UnderstudyError('NotFound', `attachment ${options.name} has no device`);
    const { index, identifier } = found;
    const { control } = await this.#opened();
    await control.reconfigure({ index, identifier, sizeBytes: target.sizeBytes });
  }

  /** @throws UnderstudyError Conflict when the export is not what was promised */
  async #connection(target: AttachableExport): Promise<ExportConnection> {
    const connection = await connectToExport(target, this.#clock);
    const { sizeBytes, flags, minimumBlockBytes = 1 } = connection.served;
    const isWritable = (flags & transmissionFlag.readOnly) === 0;
    const fits = sizeBytes === target.sizeBytes && minimumBlockBytes <= target.blockSize;
    if (fits && (isWritable || target.readOnly)) return connection;
    closeSync(connection.descriptor);
    const found = `${sizeBytes} bytes in blocks of ${minimumBlockBytes}${isWritable ? '' : ', read-only'}`;
    const expected = `${target.sizeBytes} bytes in blocks of ${target.blockSize}${target.readOnly ? ', read-only' : ''}`;
    throw new UnderstudyError('Conflict', `export "${target.exportName}" has ${found}; expected were ${expected}`);
  }

  async detach(name: string): Promise<void> {
    for (const { index, device, identifier } of await this.#devices(name)) {
      const link = this.#links.get(name);
      // Without a connection nothing can be written back any more.
      if (link?.index !== index || link.dead) {
        await this.abandon(name);
        return;
      }
      const { control } = await this.#opened();
      link.closing = true;
      // The last to close it makes the kernel write back what it holds and disconnect. If nobody has it open, that is us.
      await control.reconfigure({ index, identifier, clientFlags: clientFlag.disconnectOnClose });
      await (await open(device)).close();
    }
    if (!(await this.#waitUntilGone(name, this.#releaseTimeoutMs))) {
      const devices = (await this.#devices(name)).map(({ device }) => device).join(', ');
      const message = `attachment ${name} cannot be undone: ${devices} is still open`;
      throw new UnderstudyError('InUse', message, { labels: { name } });
    }
    this.#drop(name);
    this.#log.info({ attachment: name }, 'detached');
  }

  async cut(name: string): Promise<void> {
    const devices = await this.#devices(name);
    const link = this.#links.get(name);
    if (link) {
      link.dead = true;
      shutDown(link.descriptor);
    }
    for (const { index } of devices) await (await this.#opened()).control.disconnect(index);
    this.#drop(name);
  }

  async abandon(name: string): Promise<{ remaining: string[] }> {
    await this.cut(name);
    if (await this.#waitUntilGone(name, abandonTimeoutMs)) return { remaining: [] };
    return { remaining: (await this.#devices(name)).map(({ device }) => device) };
  }

  async list(): Promise<PresentAttachment[]> {
    const present = new Map<string, NbdDevice[]>();
    for (const device of await readNbdDevices()) {
      const name = attachmentOf(device.identifier, this.#tag);
      if (name !== undefined) present.set(name, [...(present.get(name) ?? []), device]);
    }
    this.#noteDeaths();
    return [...present].map(([name, found]) => {
      const [first] = found;
      const alive = first !== undefined && found.length === 1 && this.#isAlive(name, first.index);
      return { name, devices: found.map(({ device }) => device), alive };
    });
  }

  /** Ends nothing: the connections stay, and their devices wait for the next agent once the servers are gone. */
  close(): void {
    for (const name of this.#links.keys()) this.#drop(name);
    this.#kernel?.events.close();
    this.#kernel = undefined;
  }

  #isAlive(name: string, index: number): boolean {
    const link = this.#links.get(name);
    return link !== undefined && link.index === index && !link.dead && !link.closing;
  }

  async #devices(name: string): Promise<NbdDevice[]> {
    return (await readNbdDevices()).filter(({ identifier }) => attachmentOf(identifier, this.#tag) === name);
  }

  async #waitUntilGone(name: string, timeoutMs: number): Promise<boolean> {
    const options = { clock: this.#clock, timeoutMs };
    return (await poll(options, async () => (await this.#devices(name)).length === 0 || undefined)) ?? false;
  }

  #noteDeaths(): void {
    const dead = this.#kernel?.events.take();
    if (dead === undefined) return;
    for (const link of this.#links.values()) if (dead === 'any' || dead.has(link.index)) link.dead = true;
  }

  #keep(name: string, index: number, { descriptor }: ExportConnection): void {
    this.#drop(name);
    this.#links.set(name, { index, descriptor, dead: false, closing: false });
  }

  #drop(name: string): void {
    const link = this.#links.get(name);
    this.#links.delete(name);
    if (link) closeSync(link.descriptor);
  }

  /** @throws UnderstudyError Unavailable */
  async #opened(): Promise<Kernel> {
    if (this.#kernel) return this.#kernel;
    const family = await findNbdFamily();
    if (family === undefined) throw new UnderstudyError('Unavailable', "the kernel's nbd driver cannot be reached");
    // Somebody else may have been faster meanwhile.
    this.#kernel ??= { control: new NbdControl(family), events: new NbdEvents(family) };
    return this.#kernel;
  }
}

function serverFlags(target: AttachableExport, { served }: ExportConnection): number {
  return (served.flags & kernelFlags) | (target.readOnly ? transmissionFlag.readOnly : 0);
}
