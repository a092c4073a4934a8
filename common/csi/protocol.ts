import { fileURLToPath } from 'node:url';
import {
  type GrpcObject,
  loadPackageDefinition,
  type ServiceClientConstructor,
  type ServiceDefinition,
} from '@grpc/grpc-js';
import { loadSync, type Options } from '@grpc/proto-loader';
import { assert } from '../assert.ts';

/**
 * How messages look in JavaScript: names in camelCase, enums as their names, 64-bit numbers as numbers (no volume has
 * 2^53 bytes), messages that were not sent null, and everything else that was not sent its empty value.
 */
const options: Options = { longs: Number, enums: String, defaults: true, oneofs: true };

/** The services of CSI and of the kubelet's registration, with clients for them. */
export interface CsiProtocol {
  readonly identity: ServiceClientConstructor;
  readonly controller: ServiceClientConstructor;
  readonly node: ServiceClientConstructor;
  readonly registration: ServiceClientConstructor;
}

let loaded: CsiProtocol | undefined;

/** Reads the protocol's files, once. */
export function csiProtocol(): CsiProtocol {
  loaded ??= load();
  return loaded;
}

export function definitionOf(service: ServiceClientConstructor): ServiceDefinition {
  return service.service;
}

function load(): CsiProtocol {
  const files = ['csi.proto', 'plugin-registration.proto'].map((name) => fileURLToPath(new URL(name, import.meta.url)));
  const root = loadPackageDefinition(loadSync(files, options));
  return {
    identity: serviceIn(root, 'csi', 'v1', 'Identity'),
    controller: serviceIn(root, 'csi', 'v1', 'Controller'),
    node: serviceIn(root, 'csi', 'v1', 'Node'),
    registration: serviceIn(root, 'pluginregistration', 'Registration'),
  };
}

function serviceIn(root: GrpcObject, ...path: readonly string[]): ServiceClientConstructor {
  let found: unknown = root;
  for (const part of path) found = Reflect.get(Object(found), part);
  assert(typeof found === 'function', `the protocol has no service ${path.join('.')}`);
  return found as ServiceClientConstructor;
}
