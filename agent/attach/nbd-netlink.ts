/**
 * The kernel's nbd driver, spoken to over generic netlink: the only way to give a device a new connection when its old
 * one has died.
 *
 * Source: the kernel's include/uapi/linux/nbd-netlink.h and drivers/block/nbd.c; for finding the family,
 * include/uapi/linux/genetlink.h.
 */
import { UnderstudyError } from '../../common/errors.ts';
import { NetlinkSocket } from '../store/netlink-socket.ts';
import { errnoName } from '../store/syscalls.ts';
import {
  type Attribute,
  type Attributes,
  decodeAttributes,
  decodeMessages,
  encodeRequest,
  type NetlinkMessage,
  textOf,
  uint16Of,
  uint32Of,
} from './netlink.ts';

const controller = { family: 16, version: 2, getFamily: 3 } as const;
const controllerAttribute = { familyId: 1, familyName: 2, maxAttribute: 5, groups: 7 } as const;
const groupAttribute = { name: 1, id: 2 } as const;

const familyName = 'nbd';
const eventGroup = 'nbd_mc_group';
const nbdVersion = 1;
const command = { connect: 1, disconnect: 2, reconfigure: 3, linkDead: 4 } as const;
const attribute = {
  index: 1,
  sizeBytes: 2,
  blockSizeBytes: 3,
  timeout: 4,
  serverFlags: 5,
  clientFlags: 6,
  sockets: 7,
  deadConnectionTimeout: 8,
  backendIdentifier: 10,
} as const;
const socketAttribute = { item: 1, descriptor: 1 } as const;
const ENOENT = 2;

/** Whether the device goes away by itself when nobody has it open any more. */
export const clientFlag = { none: 0n, disconnectOnClose: 2n } as const;
export type ClientFlags = (typeof clientFlag)[keyof typeof clientFlag];

/** The nbd family of the running kernel. */
export interface NbdFamily {
  readonly id: number;
  /** The highest attribute that this kernel knows. */
  readonly maxAttribute: number;
  /** Of the events. */
  readonly group: number | undefined;
}

export interface NewDevice {
  readonly sizeBytes: number;
  readonly blockSize: number;
  /** Transmission flags of the NBD protocol. */
  readonly serverFlags: number;
  /** How long I/O waits for a new connection when there is none; then it fails. */
  readonly deadConnectionTimeoutSeconds: number;
  /** Kept by the kernel and shown in /sys/block/nbdN/backend; whoever reconfigures the device has to know it. */
  readonly identifier: string;
  /** Socket with the handshake done. The kernel takes a reference of its own. */
  readonly descriptor: number;
}

/** What is to be changed; the rest stays. */
export interface DeviceChange {
  readonly index: number;
  /** Must be the one that the device was made with: the kernel refuses another. */
  readonly identifier: string;
  readonly sizeBytes?: number;
  readonly blockSize?: number;
  readonly clientFlags?: ClientFlags;
  /** Takes the place of a dead connection; if there is none, the kernel ignores it without a word. */
  readonly descriptor?: number;
}

/** Finds the family. Undefined where the kernel has no nbd driver, or in another network namespace than the first. */
export async function findNbdFamily(): Promise<NbdFamily | undefined> {
  const { messages, errno } = await exchange({
    family: controller.family,
    command: controller.getFamily,
    version: controller.version,
    attributes: [{ type: controllerAttribute.familyName, text: familyName }],
  });
  if (errno === ENOENT) return undefined;
  if (errno !== 0) throw new UnderstudyError('Unavailable', `the netlink family nbd: ${errnoName(errno)}`);
  const attributes = attributesOf(messages);
  const id = uint16Of(attributes, controllerAttribute.familyId);
  if (id === undefined) throw new UnderstudyError('Protocol', 'the kernel named no number for the netlink family nbd');
  const maxAttribute = uint32Of(attributes, controllerAttribute.maxAttribute) ?? 0;
  return { id, maxAttribute, group: findGroup(attributes.get(controllerAttribute.groups)) };
}

/** Whether this kernel lets a device be named by whoever made it (Linux 5.14). */
export function knowsIdentifiers(family: NbdFamily): boolean {
  return family.maxAttribute >= attribute.backendIdentifier;
}

function findGroup(list: Uint8Array | undefined): number | undefined {
  if (list === undefined) return undefined;
  for (const group of decodeAttributes(list).values()) {
    const attributes = decodeAttributes(group);
    if (textOf(attributes, groupAttribute.name) === eventGroup) return uint32Of(attributes, groupAttribute.id);
  }
  return undefined;
}

/** Orders to the driver. Each is carried out when its promise resolves. @throws UnderstudyError Io with the errno's name */
export class NbdControl {
  readonly #family: NbdFamily;

  constructor(family: NbdFamily) {
    this.#family = family;
  }

  /** Makes a device on a free number, and answers with that. No request of it is ever given up for taking long. */
  async connect(device: NewDevice): Promise<{ index: number }> {
    const messages = await this.#order('make a device', command.connect, [
      { type: attribute.sizeBytes, u64: BigInt(device.sizeBytes) },
      { type: attribute.blockSizeBytes, u64: BigInt(device.blockSize) },
      { type: attribute.timeout, u64: 0n },
      { type: attribute.deadConnectionTimeout, u64: BigInt(device.deadConnectionTimeoutSeconds) },
      { type: attribute.serverFlags, u64: BigInt(device.serverFlags) },
      { type: attribute.clientFlags, u64: clientFlag.none },
      { type: attribute.backendIdentifier, text: device.identifier },
      sockets(device.descriptor),
    ]);
    const index = uint32Of(attributesOf(messages), attribute.index);
    if (index === undefined)
      throw new UnderstudyError('Protocol', 'the kernel made an nbd device and did not say which');
    return { index };
  }

  async reconfigure(change: DeviceChange): Promise<void> {
    const { index, identifier, sizeBytes, blockSize, clientFlags, descriptor } = change;
    const attributes: Attribute[] = [
      { type: attribute.index, u32: index },
      { type: attribute.backendIdentifier, text: identifier },
    ];
    if (sizeBytes !== undefined) attributes.push({ type: attribute.sizeBytes, u64: BigInt(sizeBytes) });
    if (blockSize !== undefined) attributes.push({ type: attribute.blockSizeBytes, u64: BigInt(blockSize) });
    if (clientFlags !== undefined) attributes.push({ type: attribute.clientFlags, u64: clientFlags });
    if (descriptor !== undefined) attributes.push(sockets(descriptor));
    await this.#order(`change /dev/nbd${index}`, command.reconfigure, attributes);
  }

  /** Ends the device; all I/O on it fails from now on, also what waits. One that is not connected is no error. */
  async disconnect(index: number): Promise<void> {
    await this.#order(`disconnect /dev/nbd${index}`, command.disconnect, [{ type: attribute.index, u32: index }]);
  }

  async #order(what: string, number: number, attributes: readonly Attribute[]): Promise<readonly NetlinkMessage[]> {
    const { messages, errno } = await exchange({
      family: this.#family.id,
      command: number,
      version: nbdVersion,
      attributes,
    });
    if (errno === 0) return messages;
    throw new UnderstudyError('Io', `the kernel's nbd driver could not ${what}: ${errnoName(errno)}`, {
      labels: { errno: errnoName(errno) },
    });
  }
}

/** Deaths of connections, as the kernel reports them. */
export class NbdEvents {
  readonly #socket = new NetlinkSocket();

  /** @throws UnderstudyError Unavailable */
  constructor(family: NbdFamily) {
    if (family.group !== undefined) this.#socket.join(family.group);
  }

  /** The numbers of the devices whose connection has died since the last call; "any" if some reports were lost. */
  take(): Set<number> | 'any' {
    const dead = new Set<number>();
    let lost = false;
    for (;;) {
      const datagram = this.#socket.receive();
      if (datagram === undefined) return lost ? 'any' : dead;
      if (datagram === 'lost') {
        lost = true;
        continue;
      }
      for (const message of decodeMessages(datagram)) {
        if (message.kind !== 'message' || message.command !== command.linkDead) continue;
        const index = uint32Of(message.attributes, attribute.index);
        if (index !== undefined) dead.add(index);
      }
    }
  }

  close(): void {
    this.#socket.close();
  }
}

function sockets(descriptor: number): Attribute {
  const item: Attribute = {
    type: socketAttribute.item,
    nested: [{ type: socketAttribute.descriptor, u32: descriptor }],
  };
  return { type: attribute.sockets, nested: [item] };
}

function attributesOf(messages: readonly NetlinkMessage[]): Attributes {
  const message = messages.find(({ kind }) => kind === 'message');
  return message?.kind === 'message' ? message.attributes : new Map();
}

/** One request on a socket of its own, so that its answers are all that can come in. */
async function exchange(request: {
  family: number;
  command: number;
  version: number;
  attributes: readonly Attribute[];
}): Promise<{ messages: readonly NetlinkMessage[]; errno: number }> {
  const socket = new NetlinkSocket();
  try {
    await socket.send(encodeRequest({ ...request, sequence: 1 }));
    const messages: NetlinkMessage[] = [];
    for (;;) {
      const datagram = socket.receive();
      if (datagram === undefined || datagram === 'lost') {
        throw new UnderstudyError('Unavailable', 'the kernel did not answer a netlink request');
      }
      messages.push(...decodeMessages(datagram));
      const result = messages.find(({ kind }) => kind === 'result');
      if (result?.kind === 'result') return { messages, errno: result.errno };
    }
  } finally {
    socket.close();
  }
}
