import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readMounts } from '../../../agent/attach/host-state.ts';
import { mountedAt } from '../../../agent/attach/mount-table.ts';
import type { AccessMode, VolumeCapability } from '../../../common/csi/messages.ts';
import type { AgentProcess } from '../../kubernetes/support/agent-process.ts';
import { type CsiClient, csiClient, filesystem } from './csi-client.ts';

/** The part of an agent's configuration that makes it serve CSI, below its directory. */
export function csiConfig(directory: string): object {
  return { csi: { socket: join(directory, 'csi.sock'), registration: join(directory, 'plugins') } };
}

/** Plays the kubelet of one agent's node. */
export class Kubelet {
  readonly csi: CsiClient;
  readonly #directory: string;

  constructor(agent: AgentProcess) {
    this.csi = csiClient(join(agent.directory, 'csi.sock'));
    this.#directory = join(agent.directory, 'kubelet');
  }

  staging(name: string): string {
    return join(this.#directory, 'staging', name);
  }

  target(pod: string): string {
    return join(this.#directory, 'pods', pod, 'mount');
  }

  async stage(
    handle: string,
    volumeCapability = filesystem(),
    volumeContext: Record<string, string> = {},
  ): Promise<void> {
    const stagingTargetPath = this.staging(handle);
    await mkdir(stagingTargetPath, { recursive: true });
    await this.csi.node.nodeStageVolume({ volumeId: handle, stagingTargetPath, volumeCapability, volumeContext });
  }

  unstage(handle: string): Promise<object> {
    return this.csi.node.nodeUnstageVolume({ volumeId: handle, stagingTargetPath: this.staging(handle) });
  }

  /** Publishes to the pod default/<pod>, and answers with the target path. */
  async publish(
    handle: string,
    pod: string,
    volumeCapability: VolumeCapability = filesystem(),
    { readonly = false, context = {} as Record<string, string> } = {},
  ): Promise<string> {
    const targetPath = this.target(pod);
    await mkdir(join(this.#directory, 'pods', pod), { recursive: true });
    const volumeContext = {
      'csi.storage.k8s.io/pod.name': pod,
      'csi.storage.k8s.io/pod.namespace': 'default',
      ...context,
    };
    const stagingTargetPath = this.staging(handle);
    await this.csi.node.nodePublishVolume({
      volumeId: handle,
      stagingTargetPath,
      targetPath,
      volumeCapability,
      readonly,
      volumeContext,
    });
    return targetPath;
  }

  unpublish(handle: string, pod: string): Promise<object> {
    return this.csi.node.nodeUnpublishVolume({ volumeId: handle, targetPath: this.target(pod) });
  }
}

export const reader: AccessMode = 'MULTI_NODE_READER_ONLY';

export async function optionsAt(path: string): Promise<readonly string[] | undefined> {
  return mountedAt(await readMounts(), path)?.options;
}
