import { connect, type Socket } from 'node:net';
import type { Clock } from '../../common/clock.ts';
import { UnderstudyError } from '../../common/errors.ts';
import { takeDescriptor } from '../store/socket-descriptor.ts';
import { NbdClientHandshake, type ServedExport } from './nbd-handshake.ts';

const handshakeTimeoutMs = 10_000;

/** A connection on which the handshake is over: the next bytes are requests of whoever owns the descriptor. */
export interface ExportConnection {
  readonly descriptor: number;
  readonly served: ServedExport;
}

/**
 * Connects to an export on a unix socket.
 * @throws UnderstudyError Unavailable when nobody answers, NotReady when the export is refused, Protocol, Timeout
 */
export async function connectToExport(
  target: { socket: string; exportName: string },
  clock: Clock,
): Promise<ExportConnection> {
  const socket = connect({ path: target.socket });
  try {
    const served = await shakeHands(socket, target, clock);
    return { served, descriptor: await takeDescriptor(socket) };
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

function shakeHands(
  socket: Socket,
  { socket: path, exportName }: { socket: string; exportName: string },
  clock: Clock,
): Promise<ServedExport> {
  const handshake = new NbdClientHandshake(exportName);
  return new Promise<ServedExport>((resolve, reject) => {
    const timer = clock.after(handshakeTimeoutMs, () =>
      reject(new UnderstudyError('Timeout', `no NBD handshake on ${path} within ${handshakeTimeoutMs} ms`)),
    );
    const failed = (message: string, cause?: Error) =>
      reject(new UnderstudyError('Unavailable', `NBD export "${exportName}" of ${path}: ${message}`, { cause }));
    socket.on('error', (error) => failed('the connection failed', error));
    socket.on('close', () => {
      timer.cancel();
      failed('the server closed the connection');
    });
    socket.on('data', (bytes: Buffer) => {
      try {
        for (const reply of handshake.received(bytes)) socket.write(reply);
        if (handshake.served) {
          timer.cancel();
          resolve(handshake.served);
        }
      } catch (error) {
        reject(error);
      }
    });
  });
}
