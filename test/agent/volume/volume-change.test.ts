import { describe, expect, test } from 'vitest';
import { volumeSpecSchema } from '../../../agent/api/contract/volumes.ts';
import { planChange } from '../../../agent/volume/volume-change.ts';
import { decodeRecord, encodeRecord, newRecord, type VolumeRecord } from '../../../agent/volume/volume-record.ts';

function spec(changes: object = {}) {
  return volumeSpecSchema.parse({ size: '1Gi', pool: 'main', role: 'standby', epoch: 3, uid: 'u1', ...changes });
}

function standby(changes: Partial<VolumeRecord['standby']> = {}): VolumeRecord {
  const record = newRecord('v', spec());
  return { ...record, standby: { ...record.standby, blank: false, clean: true, dataEpoch: 3, ...changes } };
}

describe('creation and repetition', () => {
  test('a new volume is created', () => {
    expect(planChange('v', undefined, spec()).kind).toBe('create');
  });

  test('the same again changes nothing', () => {
    const { record } = planChange('v', undefined, spec());
    expect(planChange('v', record, spec())).toEqual({ kind: 'none', record });
  });

  test('a planned change, once made, is planned no more', () => {
    const primary = planChange('v', undefined, spec({ role: 'primary' })).record;
    const wanted = spec({
      role: 'primary',
      mirrors: [{ name: 'm', address: 'h:1', mode: 'synchronous' }],
      onLoss: 'continue',
    });
    const change = planChange('v', primary, wanted);
    expect(change.kind).toBe('live');
    expect(planChange('v', change.record, wanted).kind).toBe('none');
  });
});

describe('peers', () => {
  test('are taken on while the volume is in use, and stay until others are named', () => {
    const { kind, record } = planChange('v', standby(), spec({ peers: ['node-a', 'node-b'] }));
    expect(kind).toBe('live');
    expect(decodeRecord(encodeRecord(record), 'there')).toMatchObject({ peers: ['node-a', 'node-b'] });
    expect(planChange('v', record, spec())).toEqual({ kind: 'none', record });
    expect(planChange('v', record, spec({ peers: ['node-a'] }))).toMatchObject({
      kind: 'live',
      record: { peers: ['node-a'] },
    });
  });
});

describe('a newer epoch without a change of role', () => {
  test('is taken on by a primary in use, whose attachments stay', () => {
    const primary = planChange('v', undefined, spec({ role: 'primary' })).record;
    const { kind, record } = planChange('v', primary, spec({ role: 'primary', epoch: 5 }));
    expect(kind).toBe('live');
    expect(record).toMatchObject({ epoch: 5, primarySince: 3 });
  });

  test('is taken on by a standby whose snapshots are read', () => {
    expect(planChange('v', standby(), spec({ epoch: 4 }))).toMatchObject({ kind: 'live', record: { epoch: 4 } });
  });
});

describe('the record at the arbiter', () => {
  const primary = planChange('v', undefined, spec({ role: 'primary' })).record;

  test('is told to a primary in use', () => {
    const told = planChange('v', primary, spec({ role: 'primary', arbiterKey: 'default/data' }));
    expect(told).toMatchObject({ kind: 'live', record: { arbiterKey: 'default/data' } });
  });

  test('stays: whoever leaves it out does not take the volume from its arbiter', () => {
    const { record } = planChange('v', primary, spec({ role: 'primary', arbiterKey: 'default/data' }));
    expect(planChange('v', record, spec({ role: 'primary' }))).toEqual({ kind: 'none', record });
  });
});

describe('what is refused', () => {
  test.each([
    ['an older epoch', spec({ epoch: 2 }), /older epoch 2/],
    ['another volume of the same name', spec({ uid: 'u2' }), /another volume/],
    ['a role change within an epoch', spec({ role: 'primary' }), /higher epoch only/],
    ['shrinking', spec({ size: '512Mi' }), /do not shrink/],
    ['another pool', spec({ pool: 'other' }), /in pool main/],
    ['another block size', spec({ blockSize: 4096 }), /block size/],
    ['a size that is not whole blocks', spec({ size: 1_000_000 }), /next one is 1003520/],
    ['a promotion that was not prepared', spec({ role: 'primary', epoch: 4 }), /not prepared/],
  ])('%s', (_, wanted, message) => {
    expect(() => planChange('v', standby(), wanted)).toThrow(message);
  });
});

describe('promotion', () => {
  const wanted = spec({ role: 'primary', epoch: 4 });

  test('a prepared, clean and consistent standby becomes primary', () => {
    const { kind, record } = planChange('v', standby({ preparedEpoch: 4 }), wanted);
    expect(kind).toBe('role');
    expect(record).toMatchObject({ role: 'primary', epoch: 4 });
  });

  test('one that may miss writes does so on an explicit order only', () => {
    const dirty = standby({ preparedEpoch: 4, clean: false });
    expect(() => planChange('v', dirty, wanted)).toThrow(/acceptDataLoss/);
    expect(planChange('v', dirty, { ...wanted, acceptDataLoss: true }).record.role).toBe('primary');
  });

  test('an inconsistent one never does', () => {
    const torn = standby({ preparedEpoch: 4, consistent: false });
    expect(() => planChange('v', torn, { ...wanted, acceptDataLoss: true })).toThrow(/inconsistent/);
  });

  test('one prepared for another epoch does not', () => {
    expect(() => planChange('v', standby({ preparedEpoch: 5 }), wanted)).toThrow(/prepared for epoch 5/);
  });

  test('a primary that becomes a standby is worth nothing until a primary has confirmed it', () => {
    const primary = planChange('v', undefined, spec({ role: 'primary' })).record;
    const { record } = planChange('v', primary, spec({ epoch: 4 }));
    expect(record.standby).toMatchObject({ clean: false, dataEpoch: 3 });
    expect(record.standby.baseId).toBeUndefined();
  });
});

describe('a copy that must not be used', () => {
  const primary = planChange('v', undefined, spec({ role: 'primary' })).record;

  test('is used again as a standby if it was fenced only', () => {
    const fenced: VolumeRecord = { ...primary, unusable: { state: 'Fenced', reason: 'a newer epoch exists' } };
    expect(planChange('v', fenced, spec({ epoch: 4 })).record.unusable).toBeUndefined();
  });

  test('is not if its disk failed', () => {
    const failed: VolumeRecord = { ...primary, unusable: { state: 'Failed', reason: 'a sync failed' } };
    expect(planChange('v', failed, spec({ epoch: 4 })).record.unusable).toEqual(failed.unusable);
  });
});

describe('the record on disk', () => {
  test('comes back as it was', () => {
    expect(decodeRecord(encodeRecord(standby()), 'here')).toEqual(standby());
  });

  test('a flipped bit anywhere is noticed', () => {
    const encoded = encodeRecord(standby());
    for (let at = 0; at < encoded.length - 1; at += 1) {
      const damaged = Buffer.from(encoded);
      damaged[at] = (damaged[at] ?? 0) ^ 4;
      try {
        expect(decodeRecord(damaged, 'here')).toEqual(standby());
      } catch (error) {
        expect(error).toMatchObject({ code: expect.stringMatching(/Corrupt|Invalid/) });
      }
    }
  });
});
