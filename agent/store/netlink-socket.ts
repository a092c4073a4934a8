import { closeSync } from 'node:fs';
import koffi from 'koffi';
import { UnderstudyError } from '../../common/errors.ts';
import { errno, errnoName } from './syscalls.ts';

/** See socket(2), netlink(7). Constants are those of Linux. */
const library = koffi.load(null);
const nativeSocket = library.func('int socket(int domain, int type, int protocol)');
const nativeBind = library.func('int bind(int fd, void *address, uint32_t length)');
const nativeSend = library.func('int64_t send(int fd, void *bytes, size_t length, int flags)');
const nativeRecv = library.func('int64_t recv(int fd, void *bytes, size_t length, int flags)');
const nativeSetsockopt = library.func('int setsockopt(int fd, int level, int name, void *value, uint32_t length)');
const nativeShutdown = library.func('int shutdown(int fd, int how)');

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const NETLINK_GENERIC = 16;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const MSG_TRUNC = 0x20;
const SHUT_RDWR = 2;
const ENOBUFS = koffi.os.errno.ENOBUFS ?? 105;

/** The kernel cuts longer answers into several; what is longer nonetheless is not for us. */
const maxDatagramBytes = 64 * 1024;

/** A socket of generic netlink: requests to the kernel, and what it sends of its own accord. */
export class NetlinkSocket {
  readonly #descriptor: number;
  readonly #buffer = new Uint8Array(maxDatagramBytes);

  /** @throws UnderstudyError Unavailable where the system allows no such socket */
  constructor() {
    const type = SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK;
    this.#descriptor = checked('open a netlink socket', nativeSocket(AF_NETLINK, type, NETLINK_GENERIC));
    // struct sockaddr_nl: family, and a port and groups of 0, for which the kernel chooses a port.
    const address = new Uint16Array(6);
    address[0] = AF_NETLINK;
    try {
      checked('bind a netlink socket', nativeBind(this.#descriptor, address, address.byteLength));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Receives from now on what the kernel tells this group. */
  join(group: number): void {
    const value = new Uint32Array([group]);
    const result = nativeSetsockopt(this.#descriptor, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, value, value.byteLength);
    checked(`join netlink group ${group}`, result);
  }

  /**
   * Sends a request. The kernel works on it meanwhile, on a thread of the pool, for as long as it takes: when this
   * resolves, the answers are there to be received.
   */
  send(request: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      nativeSend.async(this.#descriptor, request, request.byteLength, 0, (error: unknown, sent: number | bigint) => {
        if (error) reject(error);
        else if (Number(sent) === request.byteLength) resolve();
        else reject(new UnderstudyError('Unavailable', 'the kernel did not take a netlink request'));
      });
    });
  }

  /**
   * The next datagram; undefined if there is none now, "lost" if the kernel had no room to keep some.
   * @throws UnderstudyError Unavailable
   */
  receive(): Uint8Array | 'lost' | undefined {
    for (;;) {
      const length = Number(nativeRecv(this.#descriptor, this.#buffer, this.#buffer.byteLength, MSG_TRUNC));
      const failure = length < 0 ? koffi.errno() : 0;
      if (failure === errno.EINTR) continue;
      if (failure === errno.EAGAIN) return undefined;
      if (failure === ENOBUFS || length > this.#buffer.byteLength) return 'lost';
      checked('receive from netlink', length);
      return this.#buffer.slice(0, length);
    }
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}

/** Ends a connection of which others have descriptors too, the kernel perhaps; one that has ended is no error. */
export function shutDown(descriptor: number): void {
  nativeShutdown(descriptor, SHUT_RDWR);
}

function checked(what: string, result: number): number {
  if (result >= 0) return result;
  throw new UnderstudyError('Unavailable', `cannot ${what}: ${errnoName(koffi.errno())}`);
}
