import { access } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Clock } from '../../common/clock.ts';
import { csiProtocol, definitionOf } from '../../common/csi/protocol.ts';
import { RpcServer } from '../../common/csi/rpc-server.ts';
import type { Log } from '../../common/log.ts';
import { IdentityService } from './identity-service.ts';
import type { FilesystemUsage, KubeletMounts } from './kubelet-mounts.ts';
import { KubeletRegistration, registrationSocketName } from './kubelet-registration.ts';
import { NodeService } from './node-service.ts';
import type { UseJournal } from './use-journal.ts';
import { mountNameOf } from './volume-handle.ts';
import { VolumeLookup, type VolumeSource } from './volume-lookup.ts';

export interface CsiOptions {
  readonly socket: string;
  /** The kubelet's folder of plugins; without it the driver is not made known by us. */
  readonly registration?: string | undefined;
  readonly kubeletDirectory?: string | undefined;
  readonly node: string;
  readonly version: string;
  readonly volumes: VolumeSource;
  /** Recovered. */
  readonly mounts: KubeletMounts;
  readonly journal: UseJournal;
  readonly usage: FilesystemUsage;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Csi {
  close(): Promise<void>;
}

/** Serves the node's CSI socket and makes it known to the kubelet. */
export async function startCsi(options: CsiOptions): Promise<Csi> {
  const { socket, registration, kubeletDirectory, node, version, volumes, mounts, journal, usage, clock } = options;
  const log = options.log.child({ component: 'csi' });
  const protocol = csiProtocol();
  const started = new AsyncDisposableStack();
  try {
    await forgetGonePods(journal, mounts);
    const lookup = new VolumeLookup({ volumes, node });
    const calls = new NodeService({ node, volumes: lookup, mounts, journal, usage, kubeletDirectory, log });
    const server = await RpcServer.listen({
      socket,
      services: [
        { definition: definitionOf(protocol.identity), calls: new IdentityService({ version }) },
        { definition: definitionOf(protocol.node), calls },
      ],
      clock,
      log,
    });
    started.defer(() => server.close());
    if (registration !== undefined) {
      const registrar = await RpcServer.listen({
        socket: join(registration, registrationSocketName),
        services: [
          {
            definition: definitionOf(protocol.registration),
            calls: new KubeletRegistration({ endpoint: socket, log }),
          },
        ],
        clock,
        log,
      });
      started.defer(() => registrar.close());
    }
    log.info({ socket, registration }, 'the CSI service answers');
    return { close: () => started.disposeAsync() };
  } catch (error) {
    await started.disposeAsync();
    throw error;
  }
}

/**
 * A pod that was removed while the node was down is not unpublished by anybody: its folder is gone, and so is its mount.
 * Without this, the snapshot it was given could never be deleted.
 */
async function forgetGonePods(journal: UseJournal, mounts: KubeletMounts): Promise<void> {
  const mounted = new Set((await mounts.list()).map(({ volume, mount }) => `${volume}/${mount}`));
  for (const { kind, path, handle, volume } of journal.uses) {
    if (mounted.has(`${volume}/${mountNameOf(handle, path)}`)) continue;
    const folder = kind === 'published' ? dirname(path) : path;
    const isThere = await access(folder).then(
      () => true,
      () => false,
    );
    if (!isThere) await journal.remove(kind, path);
  }
}
