import { type Client, credentials, type ServiceClientConstructor, type ServiceError } from '@grpc/grpc-js';
import type {
  ControllerCalls,
  IdentityCalls,
  NodeCalls,
  RegistrationCalls,
  VolumeCapability,
} from '../../../common/csi/messages.ts';
import { csiProtocol } from '../../../common/csi/protocol.ts';

/** The calls of a service as a client makes them: what a request does not say is not sent. */
export type Calls<Service> = {
  [Name in keyof Service]: Service[Name] extends (request: infer Request) => Promise<infer Answer>
    ? (request?: Partial<Request>) => Promise<Answer>
    : never;
};

export interface CsiClient {
  readonly identity: Calls<IdentityCalls>;
  readonly node: Calls<NodeCalls>;
  close(): void;
}

/** A client of a CSI socket, as the kubelet is one. */
export function csiClient(socket: string): CsiClient {
  const protocol = csiProtocol();
  const identity = connect(protocol.identity, socket);
  const node = connect(protocol.node, socket);
  return {
    identity: callsOf<IdentityCalls>(identity),
    node: callsOf<NodeCalls>(node),
    close() {
      identity.close();
      node.close();
    },
  };
}

/** A client of the operator's CSI socket, as the side-cars are. */
export function controllerClient(socket: string): {
  identity: Calls<IdentityCalls>;
  controller: Calls<ControllerCalls>;
  close(): void;
} {
  const identity = connect(csiProtocol().identity, socket);
  const controller = connect(csiProtocol().controller, socket);
  return {
    identity: callsOf<IdentityCalls>(identity),
    controller: callsOf<ControllerCalls>(controller),
    close() {
      identity.close();
      controller.close();
    },
  };
}

export function registrationClient(socket: string): { plugin: Calls<RegistrationCalls>; close(): void } {
  const client = connect(csiProtocol().registration, socket);
  return { plugin: callsOf<RegistrationCalls>(client), close: () => client.close() };
}

function connect(service: ServiceClientConstructor, socket: string): Client {
  return new service(`unix:${socket}`, credentials.createInsecure());
}

export function callsOf<Service>(client: Client): Calls<Service> {
  type Method = (request: object, callback: (error: ServiceError | null, answer: unknown) => void) => void;
  const call = (name: string, request: object) =>
    new Promise((resolve, reject) => {
      const method = Reflect.get(client, name) as Method;
      method.call(client, request, (error, answer) => (error ? reject(error) : resolve(answer)));
    });
  return new Proxy({} as Calls<Service>, {
    get: (_, name) => (name === 'then' ? undefined : (request: object = {}) => call(String(name), request)),
  });
}

/** What a call was refused with; it must not succeed. */
export async function refusal(call: Promise<unknown>): Promise<{ code: number; details: string }> {
  try {
    await call;
  } catch (error) {
    const { code, details } = error as ServiceError;
    return { code, details };
  }
  throw new Error('the call was expected to be refused');
}

export function filesystem(
  mode: NonNullable<VolumeCapability['accessMode']>['mode'] = 'SINGLE_NODE_WRITER',
  { fsType = '', mountFlags = [] as string[] } = {},
): VolumeCapability {
  return { mount: { fsType, mountFlags }, accessMode: { mode } };
}

export function block(
  mode: NonNullable<VolumeCapability['accessMode']>['mode'] = 'SINGLE_NODE_WRITER',
): VolumeCapability {
  return { block: {}, accessMode: { mode } };
}
