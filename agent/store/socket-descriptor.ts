import { once } from 'node:events';
import type { Socket } from 'node:net';
import { UnderstudyError } from '../../common/errors.ts';
import { duplicateDescriptor } from './syscalls.ts';

/**
 * Takes a connected socket out of Node's hands: what the peer sends from now on is for whoever gets the descriptor.
 * The connection stays; the descriptor is the caller's to close.
 * @throws UnderstudyError Internal, Io
 */
export async function takeDescriptor(socket: Socket): Promise<number> {
  stopReading(socket);
  const descriptor = duplicateDescriptor(descriptorOf(socket));
  const closed = once(socket, 'close');
  socket.destroy();
  await closed;
  return descriptor;
}

/** A paused socket goes on reading into its buffer; Node has no public way to keep it from that. */
export function stopReading(socket: Socket): void {
  const handle = handleOf(socket);
  const readStop: unknown = handle && Reflect.get(handle, 'readStop');
  if (typeof readStop !== 'function') throw new UnderstudyError('Internal', 'a socket that cannot stop reading');
  readStop.call(handle);
}

/** Node has no public way to a socket's descriptor. */
export function descriptorOf(socket: Socket): number {
  const handle = handleOf(socket);
  const descriptor: unknown = handle && Reflect.get(handle, 'fd');
  if (typeof descriptor !== 'number' || descriptor < 0)
    throw new UnderstudyError('Internal', 'a socket without descriptor');
  return descriptor;
}

function handleOf(socket: Socket): object | undefined {
  const handle: unknown = Reflect.get(socket, '_handle');
  return typeof handle === 'object' && handle !== null ? handle : undefined;
}
