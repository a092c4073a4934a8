import { driverName } from '../../common/csi/driver.ts';
import type { IdentityCalls, PluginCapabilities, PluginInfo, ProbeResponse } from '../../common/csi/messages.ts';

/** What the driver is, as a node tells it: the controller has an identity of its own. */
export class IdentityService implements IdentityCalls {
  readonly #version: string;

  constructor(options: { version: string }) {
    this.#version = options.version;
  }

  async getPluginInfo(): Promise<PluginInfo> {
    return { name: driverName, vendorVersion: this.#version };
  }

  async getPluginCapabilities(): Promise<PluginCapabilities> {
    return { capabilities: [{ service: { type: 'VOLUME_ACCESSIBILITY_CONSTRAINTS' } }] };
  }

  /** The socket is there only once the node's mounts have been recovered. */
  async probe(): Promise<ProbeResponse> {
    return { ready: { value: true } };
  }
}
