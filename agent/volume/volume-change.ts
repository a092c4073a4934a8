import { UnderstudyError } from '../../common/errors.ts';
import { formatBytes } from '../../common/quantity.ts';
import type { VolumeSpec } from '../api/contract/volumes.ts';
import { newRecord, settingsOf, type VolumeRecord } from './volume-record.ts';

/**
 * - none: the copy is as it should be.
 * - live: only the mirrors, what happens on their loss, the arbiter's record, the peers or the epoch changes; done while the volume is
 *   in use.
 * - role: the role changes, and nothing else that the layers below a mirror depend on; done while snapshots are read.
 * - restart: the stack is built anew from the changed record.
 */
export interface VolumeChange {
  readonly kind: 'create' | 'none' | 'live' | 'role' | 'restart';
  readonly record: VolumeRecord;
}

/**
 * Decides what a PUT makes of a copy. Pure. `blank`: what is in the place of a new volume reads as zeroes.
 *
 * Invariants
 * - The epoch never falls, and the role changes with a higher epoch only.
 * - A standby becomes primary only if it has been prepared for exactly that epoch, and is clean and consistent, or the
 *   order says that a loss is accepted. An inconsistent copy never does: it is the image of no moment.
 * - Another uid is another volume, whatever its name.
 *
 * @throws UnderstudyError Conflict, Invalid; nothing has been changed then.
 */
export function planChange(
  volume: string,
  current: VolumeRecord | undefined,
  spec: VolumeSpec,
  blank = true,
): VolumeChange {
  checkSpec(volume, spec);
  checkSource(volume, current, spec);
  if (!current) return { kind: 'create', record: newRecord(volume, spec, blank) };
  checkIdentity(current, spec);
  checkEpoch(current, spec);
  checkShape(current, spec);
  if (spec.role !== current.role) {
    const changed = changeRole(current, spec);
    return { kind: shapeOf(changed) === shapeOf(current) ? 'role' : 'restart', record: changed };
  }
  const { buffer: _, ...rest } = current;
  const record: VolumeRecord = {
    ...rest,
    ...settingsOf(spec),
    ...(current.fill && spec.source ? { fill: { ...current.fill, ...spec.source } } : {}),
    ...(current.role === 'primary' ? { primarySince: current.primarySince ?? current.epoch } : {}),
    mirrorRecords: current.mirrorRecords.filter((known) => spec.mirrors.some((mirror) => mirror.name === known.name)),
  };
  if (kindOf(current, record) === 'restart') checkModes(current, spec);
  if (current.unusable?.state === 'Fenced' && spec.epoch > current.epoch) {
    throw conflict(current, `it is fenced (${current.unusable.reason}); make it a standby of the newer epoch instead`);
  }
  return { kind: kindOf(current, record), record };
}

function kindOf(current: VolumeRecord, record: VolumeRecord): VolumeChange['kind'] {
  const live = ({ mirrors, onLoss, epoch, arbiterKey, peers, fill }: VolumeRecord) =>
    JSON.stringify({ mirrors, onLoss, epoch, arbiterKey, peers, fill });
  if (shapeOf(current) !== shapeOf(record)) return 'restart';
  // The layer that feeds the copies behind a standby is there only if there are any.
  const cascade = ({ role, mirrors: list }: VolumeRecord) => role === 'standby' && list.length > 0;
  if (cascade(current) !== cascade(record)) return 'restart';
  return live(current) === live(record) ? 'none' : 'live';
}

/** What the layers below a mirror are made from. */
function shapeOf({ size, buffer, uid }: VolumeRecord): string {
  return JSON.stringify({ size, buffer, uid });
}

function checkSpec(volume: string, spec: VolumeSpec): void {
  const invalid = (message: string) => new UnderstudyError('Invalid', `volume ${volume}: ${message}`);
  if (spec.size % 4096 !== 0) {
    throw invalid(
      `size ${spec.size} is not a multiple of 4096 bytes; the next one is ${Math.ceil(spec.size / 4096) * 4096}`,
    );
  }
  const names = new Set(spec.mirrors.map((mirror) => mirror.name));
  if (names.size !== spec.mirrors.length) throw invalid('two mirrors have the same name');
  const synchronous = spec.mirrors.find((mirror) => mirror.mode === 'synchronous');
  if (spec.role === 'standby' && synchronous)
    throw invalid(`mirror ${synchronous.name}: a mirror of a standby (a cascade) is asynchronous`);
  const settings = spec.mirrors.find(
    ({ mode, journal, compression }) => mode === 'synchronous' && (journal || compression),
  );
  if (settings) throw invalid(`mirror ${settings.name}: journal and compression are for asynchronous mirrors`);
}

/** A volume begins with the content of a snapshot or not; only where that is may change. */
function checkSource(volume: string, current: VolumeRecord | undefined, { source, role }: VolumeSpec): void {
  if (source === undefined) return;
  if (current === undefined) {
    if (role === 'primary') return;
    throw new UnderstudyError('Invalid', `volume ${volume}: a standby is filled by its primary, not from a snapshot`);
  }
  const { fill } = current;
  const same = fill?.volume === source.volume && fill.uid === source.uid && fill.snapshot === source.snapshot;
  if (!same) throw conflict(current, `it was not made from snapshot ${source.snapshot} of volume ${source.volume}`);
}

function checkIdentity(current: VolumeRecord, spec: VolumeSpec): void {
  if (current.uid !== undefined && spec.uid !== current.uid) {
    throw conflict(
      current,
      `it has uid ${current.uid}, the request is for uid ${spec.uid ?? '(none)'}: another volume; delete this copy first if it is not needed`,
    );
  }
}

function checkEpoch(current: VolumeRecord, spec: VolumeSpec): void {
  if (spec.epoch < current.epoch) {
    throw conflict(current, `it is at epoch ${current.epoch}, the request is for the older epoch ${spec.epoch}`);
  }
  const prepared = current.standby.preparedEpoch;
  if (current.role === 'standby' && prepared !== undefined && spec.epoch < prepared) {
    throw conflict(
      current,
      `it has been prepared for epoch ${prepared}, the request is for the older epoch ${spec.epoch}`,
    );
  }
  if (spec.role !== current.role && spec.epoch === current.epoch) {
    throw conflict(
      current,
      `it is ${current.role} in epoch ${current.epoch}; the role changes with a higher epoch only`,
    );
  }
}

/** A standby that writes wait for is let go of while the volume is in use, not by way of a restart. */
function checkModes(current: VolumeRecord, spec: VolumeSpec): void {
  const changed = spec.mirrors.find((mirror) => {
    const before = current.mirrors.find(({ name }) => name === mirror.name);
    return before?.mode === 'synchronous' && mirror.mode === 'asynchronous';
  });
  if (changed)
    throw conflict(
      current,
      `mirror ${changed.name} is to become asynchronous; ask for that by itself, and for the rest after it`,
    );
}

function checkShape(current: VolumeRecord, spec: VolumeSpec): void {
  if (spec.size < current.size) {
    throw conflict(
      current,
      `its size is ${formatBytes(current.size)}, the request is for ${formatBytes(spec.size)}: volumes do not shrink`,
    );
  }
  if (spec.pool !== current.pool)
    throw conflict(current, `it is in pool ${current.pool}, the request is for pool ${spec.pool}`);
  if (spec.blockSize !== current.blockSize) {
    throw conflict(current, `its block size is ${current.blockSize}, the request is for ${spec.blockSize}`);
  }
  if (!current.buffer) return;
  if (spec.buffer && spec.buffer.pool !== current.buffer.pool) {
    throw conflict(
      current,
      `its buffer is in pool ${current.buffer.pool}, the request is for pool ${spec.buffer.pool}`,
    );
  }
  if (spec.buffer && spec.buffer.capacity < current.buffer.capacity) {
    throw conflict(
      current,
      `its buffer holds ${formatBytes(current.buffer.capacity)}, the request is for ${formatBytes(spec.buffer.capacity)}: buffers do not shrink`,
    );
  }
}

function changeRole(current: VolumeRecord, spec: VolumeSpec): VolumeRecord {
  const { buffer: _, unusable, primarySince: __, ...rest } = current;
  const base: VolumeRecord = {
    ...rest,
    ...settingsOf(spec),
    mirrorRecords: keptRecords(current, spec),
    // A newer epoch ends a fence. A disk that failed for good is not trusted again in any role (rule 15).
    ...(unusable?.state === 'Failed' ? { unusable } : {}),
  };
  if (spec.role === 'standby') {
    // What it wrote as a primary may be missing elsewhere, so nothing of it counts until a primary has confirmed it.
    const { preparedEpoch: ___, baseId: ____, stream: _____, ...standby } = current.standby;
    const became = { ...standby, blank: false, consistent: true, clean: false, dataEpoch: current.epoch };
    return { ...base, standby: { ...became, formerEpoch: current.epoch } };
  }
  checkPromotion(current, spec);
  const { stream: ___, ...standby } = current.standby;
  return { ...base, primarySince: spec.epoch, standby };
}

/**
 * The copy behind an asynchronous mirror that stays one follows this copy in any role. What a synchronous standby is
 * worth is a matter of the epoch.
 */
function keptRecords(current: VolumeRecord, spec: VolumeSpec): VolumeRecord['mirrorRecords'] {
  const stays = (name: string, mirrors: VolumeSpec['mirrors']) =>
    mirrors.some((mirror) => mirror.name === name && mirror.mode === 'asynchronous');
  return current.mirrorRecords.filter(({ name }) => stays(name, current.mirrors) && stays(name, spec.mirrors));
}

function checkPromotion(current: VolumeRecord, spec: VolumeSpec): void {
  const { consistent, clean, preparedEpoch } = current.standby;
  if (current.unusable) throw conflict(current, `it is ${current.unusable.state}: ${current.unusable.reason}`);
  if (preparedEpoch !== spec.epoch) {
    throw conflict(current, `it is a standby not prepared for epoch ${spec.epoch}; call prepare with that epoch first`);
  }
  if (!consistent) throw conflict(current, 'it is inconsistent: a resync into it is unfinished');
  if (!clean && !spec.acceptDataLoss) {
    throw conflict(current, 'it may miss acknowledged writes; promote another copy, or say acceptDataLoss: true');
  }
}

function conflict(current: VolumeRecord, message: string): UnderstudyError {
  return new UnderstudyError('Conflict', `volume ${current.volume}: ${message}`, {
    labels: { volume: current.volume },
  });
}
