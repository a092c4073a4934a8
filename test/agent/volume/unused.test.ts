import { describe, expect, test } from 'vitest';
import { noSnapshotUsers } from '../../../agent/volume/snapshot-users.ts';
import { checkUnused } from '../../../agent/volume/unused.ts';
import type { VolumeSlot } from '../../../agent/volume/volume-slot.ts';

/** A volume with so many clients of its live export, and readers of its snapshot. */
function slotWith(connections: number, readers = 0): VolumeSlot {
  const view = { attached: connections > 0, snapshots: [{ name: 's', readers }] };
  const slot = { volume: 'v', view: async () => view, host: { call: async () => connections } };
  return slot as unknown as VolumeSlot;
}

const check = (slot: VolumeSlot, lastingDevices?: number) =>
  checkUnused(slot, 'changed', { users: noSnapshotUsers, ...(lastingDevices === undefined ? {} : { lastingDevices }) });

describe('a volume is stopped', () => {
  test('while nobody uses it, or only devices whose I/O can wait', async () => {
    await check(slotWith(0));
    await check(slotWith(2), 2);
    await check(slotWith(0), 1);
  });

  test('not while a client uses it whose I/O would fail, also beside such devices', async () => {
    await expect(check(slotWith(1))).rejects.toMatchObject({ code: 'InUse' });
    await expect(check(slotWith(2), 1)).rejects.toThrow(
      'volume v cannot be changed while it has clients of its live export',
    );
  });

  test('not while one of its snapshots is read', async () => {
    await expect(check(slotWith(1, 1), 1)).rejects.toThrow('readers of its snapshots s');
  });
});
