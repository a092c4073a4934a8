import { driverName } from '../../common/csi/driver.ts';
import type { Empty, RegistrationCalls, RegistrationInfo, RegistrationStatus } from '../../common/csi/messages.ts';
import type { Log } from '../../common/log.ts';

/** In the kubelet's folder of plugins: a socket that appears there is asked what it is. */
export const registrationSocketName = `${driverName}-reg.sock`;

/**
 * Makes the node's CSI service known to the kubelet.
 * Source: https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/ and the kubelet's
 * plugin registration protocol, version 1.
 */
export class KubeletRegistration implements RegistrationCalls {
  readonly #endpoint: string;
  readonly #log: Log;

  /** `endpoint`: the path of the CSI socket, as the kubelet sees it. */
  constructor(options: { endpoint: string; log: Log }) {
    this.#endpoint = options.endpoint;
    this.#log = options.log;
  }

  async getInfo(): Promise<RegistrationInfo> {
    return { type: 'CSIPlugin', name: driverName, endpoint: this.#endpoint, supportedVersions: ['1.0.0'] };
  }

  /** The kubelet tries again by itself where it failed. */
  async notifyRegistrationStatus({ pluginRegistered, error }: RegistrationStatus): Promise<Empty> {
    if (pluginRegistered) this.#log.info({}, 'registered with the kubelet');
    else this.#log.error({ reason: error }, 'the kubelet does not accept this driver');
    return {};
  }
}
