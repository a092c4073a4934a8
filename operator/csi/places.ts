import { topologyKey, topologyValue } from '../../common/csi/driver.ts';
import type { Topology } from '../../common/csi/messages.ts';
import type { PrimaryVolume } from '../resources/primary-volume.ts';

/** Where a live volume can be mounted: on the node of its primary. */
export function placesOf({ status }: PrimaryVolume): readonly Topology[] {
  return status?.node === undefined ? [] : [{ segments: { [topologyKey]: topologyValue(status.node) } }];
}
