import { driverName } from '../../common/csi/driver.ts';
import type { IdentityCalls, PluginCapabilities, PluginInfo, ProbeResponse } from '../../common/csi/messages.ts';

/** What the driver is, as its controller tells it. */
export class ControllerIdentity implements IdentityCalls {
  readonly #version: string;
  readonly #isReady: () => boolean;

  constructor(options: { version: string; isReady: () => boolean }) {
    this.#version = options.version;
    this.#isReady = options.isReady;
  }

  async getPluginInfo(): Promise<PluginInfo> {
    return { name: driverName, vendorVersion: this.#version };
  }

  async getPluginCapabilities(): Promise<PluginCapabilities> {
    return {
      capabilities: [
        { service: { type: 'CONTROLLER_SERVICE' } },
        { service: { type: 'VOLUME_ACCESSIBILITY_CONSTRAINTS' } },
        { volumeExpansion: { type: 'OFFLINE' } },
      ],
    };
  }

  async probe(): Promise<ProbeResponse> {
    return { ready: { value: this.#isReady() } };
  }
}
