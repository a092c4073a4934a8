import { createInterface } from 'node:readline';
import { PassThrough, Writable } from 'node:stream';
import { Exec, type KubeConfig, type V1Status } from '@kubernetes/client-node';
import type { UnderstudyError } from '../../common/errors.ts';
import { kubeError } from './kube-error.ts';
import type { CommandEnd, ContainerRef, RunningCommand } from './pod-exec.ts';

/** Of standard error; the rest of a long complaint helps nobody. */
const maxStderrBytes = 1024;
/** The first protocol of the API server that can end a command's standard input without ending the connection. */
const protocolWithEnds = 'v5.channel.k8s.io';

/**
 * Runs a command over a WebSocket, as kubectl exec does.
 * Source: https://kubernetes.io/docs/reference/using-api/api-concepts/ and KEP 4006 (version 5 of the protocol).
 */
export async function execOverWebSocket(
  config: KubeConfig,
  { namespace, pod, container }: ContainerRef,
  command: readonly string[],
): Promise<RunningCommand> {
  const stdin = new PassThrough();
  const stdout = new PassThrough();
  const stderr = new Tail(maxStderrBytes);
  const end = Promise.withResolvers<CommandEnd>();
  // Whoever left it does not wait for it.
  end.promise.catch(() => undefined);
  const onStatus = (status: V1Status) => {
    const exitCode = exitCodeOf(status);
    if (exitCode === undefined) end.reject(startError(status));
    else end.resolve({ exitCode, stderr: stderr.text });
  };
  const where = `${namespace}/${pod}`;
  const socket = await new Exec(config)
    // The types ask for a name; for an empty one the server takes the only container.
    .exec(namespace, pod, container ?? '', [...command], stdout, stderr, stdin, false, onStatus)
    .catch((error: unknown) => {
      throw connectError(where, error);
    });
  const broken = () => {
    stdout.end();
    end.reject(kubeError(503, 'Unreachable', `the connection to the command in pod ${where} was lost`));
  };
  socket.onclose = broken;
  socket.onerror = broken;
  const lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
  return {
    nextLine: async () => {
      const { done, value } = await lines.next();
      return done ? undefined : value;
    },
    tellToEnd: () => {
      stdin.write('\n');
      if (socket.protocol === protocolWithEnds) stdin.end();
    },
    ended: end.promise,
    leave: () => socket.close(),
  };
}

/** The exit code that a Status object tells of; undefined if the command could not even be started. */
function exitCodeOf({ status, details }: V1Status): number | undefined {
  if (status === 'Success') return 0;
  const cause = details?.causes?.find(({ reason }) => reason === 'ExitCode');
  return cause === undefined ? undefined : Number(cause.message);
}

function startError({ code, reason, message }: V1Status): UnderstudyError {
  return kubeError(code ?? 500, reason ?? 'Unknown', message ?? 'the command could not be started');
}

/** A refused upgrade carries the HTTP status in its message only. */
function connectError(where: string, event: unknown): UnderstudyError {
  const text: unknown = typeof event === 'object' && event !== null ? Reflect.get(event, 'message') : undefined;
  const status = Number(/Unexpected server response: ([0-9]{3})/.exec(String(text))?.[1] ?? 503);
  switch (status) {
    case 403:
      return kubeError(
        403,
        'Forbidden',
        `the operator may not run commands in pod ${where}; give it the right (operator.hooks of the chart)`,
      );
    case 404:
      return kubeError(404, 'NotFound', `there is no pod ${where}`);
    case 400:
      return kubeError(400, 'BadRequest', `pod ${where} has no such container, or it is not running`);
    default:
      return kubeError(status, 'Unreachable', `no command could be run in pod ${where}: ${String(text)}`);
  }
}

/** Keeps the end of what is written to it. */
class Tail extends Writable {
  #kept = Buffer.alloc(0);
  readonly #limitBytes: number;

  constructor(limitBytes: number) {
    super();
    this.#limitBytes = limitBytes;
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#kept = Buffer.concat([this.#kept, chunk]).subarray(-this.#limitBytes);
    done();
  }

  get text(): string {
    return this.#kept.toString('utf8').trim();
  }
}
