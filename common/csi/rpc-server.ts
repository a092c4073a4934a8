import { chmod, mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import {
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServiceDefinition,
  type sendUnaryData,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { Clock } from '../clock.ts';
import { errorMessage, UnderstudyError } from '../errors.ts';
import type { Log } from '../log.ts';
import { statusCode, statusOf } from './csi-error.ts';

/** The calls of one service by their names in the protocol. */
export interface RpcService<Calls> {
  readonly definition: ServiceDefinition;
  readonly calls: Calls;
}

export interface RpcServerOptions {
  /** Path of the unix socket; its folder is made if needed, and what an earlier process left there is replaced. */
  readonly socket: string;
  readonly services: readonly RpcService<object>[];
  readonly clock: Clock;
  readonly log: Log;
}

/** The path of a unix socket holds at most this many bytes. */
const maxSocketPathBytes = 107;
/** Requests are small; secrets and parameters are at most 4 KiB each. */
const maxMessageBytes = 1024 * 1024;
const closeTimeoutMs = 5_000;

type Call = (request: unknown) => Promise<object>;

/** A gRPC server on a unix socket that only root can connect to. */
export class RpcServer {
  readonly #server: Server;
  readonly #socket: string;
  readonly #clock: Clock;

  /** @throws UnderstudyError Invalid for a path that is too long, Unavailable if it cannot listen there */
  static async listen({ socket, services, clock, log }: RpcServerOptions): Promise<RpcServer> {
    if (Buffer.byteLength(socket) > maxSocketPathBytes) {
      throw new UnderstudyError(
        'Invalid',
        `${socket} is too long for a unix socket: at most ${maxSocketPathBytes} bytes`,
      );
    }
    const server = new Server({
      'grpc.max_receive_message_length': maxMessageBytes,
      'grpc.max_send_message_length': maxMessageBytes * 4,
    });
    for (const { definition, calls } of services) server.addService(definition, implementation(definition, calls, log));
    await mkdir(dirname(socket), { recursive: true, mode: 0o750 });
    await rm(socket, { force: true });
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) => {
        if (error) reject(new UnderstudyError('Unavailable', `cannot listen on ${socket}`, { cause: error }));
        else resolve();
      });
    });
    await chmod(socket, 0o600);
    return new RpcServer(server, socket, clock);
  }

  private constructor(server: Server, socket: string, clock: Clock) {
    this.#server = server;
    this.#socket = socket;
    this.#clock = clock;
  }

  /** Lets calls under way end, for a while, and removes the socket. */
  async close(): Promise<void> {
    await rm(this.#socket, { force: true });
    const forced = this.#clock.after(closeTimeoutMs, () => this.#server.forceShutdown());
    await new Promise<void>((resolve) => this.#server.tryShutdown(() => resolve()));
    forced.cancel();
  }
}

/** Calls that a service does not have are answered with UNIMPLEMENTED by the server itself. */
function implementation(definition: ServiceDefinition, calls: object, log: Log): UntypedServiceImplementation {
  const handlers: UntypedServiceImplementation = {};
  for (const name of Object.keys(definition)) {
    const method = Reflect.get(calls, lowerFirst(name)) as Call | undefined;
    if (method) handlers[name] = handlerOf(name, (request) => method.call(calls, request), log);
  }
  return handlers;
}

function handlerOf(name: string, call: Call, log: Log) {
  return async (incoming: ServerUnaryCall<unknown, object>, answer: sendUnaryData<object>): Promise<void> => {
    try {
      const result = await call(incoming.request);
      log.debug({ call: name, ...idsOf(incoming.request) }, 'done');
      answer(null, result);
    } catch (error) {
      const status = statusOf(error);
      const labels = { call: name, status, ...idsOf(incoming.request) };
      if (status === 'INTERNAL' || status === 'DATA_LOSS') log.error({ ...labels, error }, errorMessage(error));
      else log.warn(labels, errorMessage(error));
      answer({ code: statusCode[status], details: errorMessage(error) });
    }
  };
}

/** What a request is about. The rest of it may hold secrets. */
function idsOf(request: unknown): object {
  const ids: Record<string, unknown> = {};
  for (const key of ['volumeId', 'snapshotId', 'sourceVolumeId', 'name', 'targetPath', 'stagingTargetPath']) {
    const value: unknown = Reflect.get(Object(request), key);
    if (typeof value === 'string' && value !== '') ids[key] = value;
  }
  return ids;
}

function lowerFirst(name: string): string {
  return name.charAt(0).toLowerCase() + name.slice(1);
}
