import type { Topology } from '../../common/csi/messages.ts';
import { nodeLabelValue, primaryLabel } from '../planning/node-labels.ts';
import type { PrimaryVolume } from '../resources/primary-volume.ts';

/**
 * Where a live volume can be mounted: on the node that has the label of its primary, which the operator moves. Of what is
 * answered here a provisioner makes the node affinity of a PersistentVolume, and that can never change.
 */
export function placesOf(volume: PrimaryVolume): readonly Topology[] {
  return [{ segments: { [primaryLabel(volume)]: nodeLabelValue(volume) } }];
}
