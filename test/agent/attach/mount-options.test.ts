import { expect, test } from 'vitest';
import { checkOptions } from '../../../agent/attach/mount-options.ts';

test('options are split at commas, and an SELinux context stays whole', () => {
  const context = 'context="system_u:object_r:container_file_t:s0:c10,c20"';
  expect(checkOptions([`noatime,${context},discard`, ''], 'volume')).toEqual(['noatime', context, 'discard']);
  expect(() => checkOptions(['noatime,loop'], 'volume')).toThrow(/"loop" is not allowed/);
});
