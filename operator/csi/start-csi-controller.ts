import type { Clock } from '../../common/clock.ts';
import { csiProtocol, definitionOf } from '../../common/csi/protocol.ts';
import { RpcServer } from '../../common/csi/rpc-server.ts';
import type { Log } from '../../common/log.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import { primaryVolumes } from '../resources/primary-volume.ts';
import { snapshots } from '../resources/snapshot.ts';
import { standbyMirrors } from '../resources/standby-mirror.ts';
import { ControllerService } from './controller-service.ts';
import { CsiStore } from './csi-store.ts';
import { ControllerIdentity } from './identity-service.ts';
import { SnapshotCalls } from './snapshot-calls.ts';
import { VolumeCalls } from './volume-calls.ts';

export interface CsiControllerOptions {
  readonly socket: string;
  readonly version: string;
  readonly api: KubeApi;
  /** Where volumes are made of which no namespace is said. */
  readonly defaultNamespace: string;
  /** Only the objects of this namespace. */
  readonly namespace: string | undefined;
  readonly isReady: () => boolean;
  readonly clock: Clock;
  readonly log: Log;
}

/** Serves the controller's CSI socket. */
export async function startCsiController(options: CsiControllerOptions): Promise<{ close(): Promise<void> }> {
  const { socket, version, api, namespace, defaultNamespace, isReady, clock } = options;
  const log = options.log.child({ component: 'csi' });
  const protocol = csiProtocol();
  const common = { api, clock, namespace };
  const volumes = new VolumeCalls({
    api,
    volumes: new CsiStore({ ...common, resource: primaryVolumes }),
    mirrors: new CsiStore({ ...common, resource: standbyMirrors }),
    namespace: namespace ?? defaultNamespace,
  });
  const calls = new SnapshotCalls({ volumes, snapshots: new CsiStore({ ...common, resource: snapshots }) });
  const server = await RpcServer.listen({
    socket,
    services: [
      { definition: definitionOf(protocol.identity), calls: new ControllerIdentity({ version, isReady }) },
      { definition: definitionOf(protocol.controller), calls: new ControllerService({ volumes, snapshots: calls }) },
    ],
    clock,
    log,
  });
  log.info({ socket }, 'the CSI controller service answers');
  return server;
}
