import { z } from 'zod';
import { CsiError } from '../../common/csi/csi-error.ts';
import { formatPath, validate } from '../../common/validation.ts';
import { durationField, objectNameField } from '../resources/fields.ts';
import type { PrimaryVolume } from '../resources/primary-volume.ts';
import type { StandbyMirror } from '../resources/standby-mirror.ts';

/** What a VolumeSnapshotClass may say in its parameters. */
const parametersSchema = z.strictObject({
  /** The StandbyMirror to take it on; without it, the first one with a buffer, else the volume itself. */
  mirror: objectNameField('').optional(),
  /** Freeze the mounted filesystem for at most this long. */
  freezeTimeout: durationField('').optional(),
  /** Wait for this long a stretch without writes, for at most that long, and what to do if there is none. */
  lullQuietFor: durationField('').optional(),
  lullTimeout: durationField('').optional(),
  lullOnTimeout: z.enum(['Take', 'Fail']).optional(),
});

/** What the side-car of a snapshotter adds by itself when told to. */
const addedBySnapshotters = /^csi\.storage\.k8s\.io\/volumesnapshot(content)?\/(name|namespace)$/;

/** Pure. The spec of the Snapshot for a CreateSnapshot. @throws CsiError INVALID_ARGUMENT, FAILED_PRECONDITION */
export function snapshotSpec(
  parameters: Readonly<Record<string, string>>,
  volume: PrimaryVolume,
  mirrors: readonly StandbyMirror[],
): object {
  const given = Object.fromEntries(Object.entries(parameters).filter(([name]) => !addedBySnapshotters.test(name)));
  const parsed = validate(parametersSchema, given);
  if (!parsed.ok) {
    const mistakes = parsed.violations.map(({ path, message }) => `${formatPath(path)}: ${message}`);
    throw new CsiError('INVALID_ARGUMENT', `the parameters of the VolumeSnapshotClass: ${mistakes.join('; ')}`);
  }
  const { mirror, freezeTimeout, lullQuietFor, lullTimeout, lullOnTimeout } = parsed.value;
  const lull = {
    ...(lullQuietFor === undefined ? {} : { quietFor: lullQuietFor }),
    ...(lullTimeout === undefined ? {} : { timeout: lullTimeout }),
    ...(lullOnTimeout === undefined ? {} : { onTimeout: lullOnTimeout }),
  };
  return {
    source: sourceOf(mirror, volume, mirrors),
    consistency: {
      ...(Object.keys(lull).length === 0 ? {} : { lull }),
      ...(freezeTimeout === undefined ? {} : { freeze: { timeout: freezeTimeout } }),
    },
    // Whoever reads it does so by its id.
    claim: false,
  };
}

function sourceOf(named: string | undefined, volume: PrimaryVolume, mirrors: readonly StandbyMirror[]): object {
  const able = mirrors
    .filter(({ metadata, spec }) => metadata.deletionTimestamp === undefined && spec.buffer !== undefined)
    .map(({ metadata }) => metadata.name)
    .sort();
  const { name } = volume.metadata;
  if (named !== undefined) {
    if (able.includes(named)) return { mirror: named };
    throw new CsiError('FAILED_PRECONDITION', `PrimaryVolume ${name} has no StandbyMirror ${named} with a buffer`);
  }
  if (able[0] !== undefined) return { mirror: able[0] };
  if (volume.spec.buffer !== undefined) return { volume: name };
  const message = `neither PrimaryVolume ${name} nor a StandbyMirror of it has a buffer to keep a snapshot in`;
  throw new CsiError('FAILED_PRECONDITION', message);
}
