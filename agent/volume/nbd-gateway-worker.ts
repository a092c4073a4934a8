/** The thread of the NBD port: what it encrypts and copies takes no time from the API, nor from any volume. */
import { parentPort, workerData } from 'node:worker_threads';
import { systemClock } from '../../common/clock.ts';
import type { RemoteExports } from '../nbd/export-access.ts';
import { NbdGateway } from '../nbd/gateway.ts';
import { type LinkTls, type PortableError, toPortable } from './engine-calls.ts';
import { type LogMessage, portLog } from './port-log.ts';

/** What the thread is started with. */
export interface GatewayThreadData {
  readonly listen: string;
  readonly directory: string;
  readonly exports: RemoteExports;
  readonly tls: LinkTls | undefined;
}

/** Certificates for connections from now on, or the end. */
export type GatewayOrder = { readonly type: 'setTls'; readonly tls: LinkTls } | { readonly type: 'stop' };

export type GatewayMessage =
  | LogMessage
  | { readonly type: 'listening'; readonly port: number }
  | { readonly type: 'failed'; readonly error: PortableError };

const { tls: given, ...options } = workerData as GatewayThreadData;
let tls = given;

function post(message: GatewayMessage): void {
  parentPort?.postMessage(message);
}

try {
  const material = () => {
    if (!tls) throw new Error('no certificates');
    return tls;
  };
  const gateway = await NbdGateway.listen({
    ...options,
    tls: tls && material,
    clock: systemClock,
    log: portLog({}, post),
  });
  parentPort?.on('message', (order: GatewayOrder) => {
    if (order.type === 'setTls') tls = order.tls;
    else void gateway.close().then(() => parentPort?.close());
  });
  post({ type: 'listening', port: gateway.port });
} catch (error) {
  post({ type: 'failed', error: toPortable(error) });
  parentPort?.close();
}
