import * as z from '../../common/shapes.ts';

/** What a copy keeps, in its record, about the last restore of its volume. */
export const restoreMarkerShape = z.object({
  name: z.string(),
  snapshot: z.string(),
  /** At the primary: the mirror whose standby keeps the snapshot; without it this copy does, unless `elsewhere`. */
  mirror: z.string().optional(),
  /** The snapshot is kept by another copy than this one, and this one cannot tell by which. */
  elsewhere: z.boolean().optional(),
  state: z.enum(['Running', 'Failed', 'Done', 'GivenUp']),
  allowInUse: z.boolean(),
  startedAt: z.string(),
  endedAt: z.string().optional(),
  failure: z.string().optional(),
});

export type RestoreMarker = z.output<typeof restoreMarkerShape>;

/** What the standby of a mirror has to know of a restore at its primary, should it take over. */
export function markerForStandby(marker: RestoreMarker | undefined, mirror: string): RestoreMarker | undefined {
  if (marker === undefined) return undefined;
  const { mirror: keeper, elsewhere: _, ...rest } = marker;
  return keeper === mirror ? rest : { ...rest, elsewhere: true };
}

/** Why the live volume must not be used: it is neither what it was nor what it is going to be. */
export function halfRestored(volume: string, marker: RestoreMarker | undefined): string | undefined {
  if (marker === undefined || marker.state === 'Done' || marker.state === 'GivenUp') return undefined;
  if (marker.allowInUse && marker.state === 'Running') return undefined;
  const failure = marker.failure === undefined ? '' : ` (${marker.failure})`;
  const what = marker.state === 'Running' ? 'is being restored' : `is half restored${failure}`;
  return `volume ${volume} ${what}: restore ${marker.name} of snapshot ${marker.snapshot}`;
}
