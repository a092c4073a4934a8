import { expect, test } from 'vitest';
import { CsiError, statusOf } from '../../../common/csi/csi-error.ts';
import { topologyValue } from '../../../common/csi/driver.ts';
import { UnderstudyError } from '../../../common/errors.ts';

test('the place of a node is its name where a label can hold it, and else something that only it has', () => {
  expect(topologyValue('node-a')).toBe('node-a');
  const long = `${'a'.repeat(70)}.example`;
  expect(topologyValue(long)).toMatch(/^a{52}-[0-9a-f]{10}$/);
  expect(topologyValue(`${long}s`)).not.toBe(topologyValue(long));
});

test('errors become the status that CSI has for them', () => {
  expect(statusOf(new UnderstudyError('InUse', ''))).toBe('FAILED_PRECONDITION');
  expect(statusOf(new UnderstudyError('NotReady', ''))).toBe('UNAVAILABLE');
  expect(statusOf(new CsiError('ABORTED', ''))).toBe('ABORTED');
  expect(statusOf(new Error('a defect'))).toBe('INTERNAL');
});
