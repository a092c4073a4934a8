import { expect, test } from 'vitest';
import { identityOfSubject, subjectOfIdentity } from '../../common/peer-identity.ts';

test.each([
  { role: 'node', name: 'node-a' },
  { role: 'operator', name: 'operator' },
] as const)('the subject of %o names it again', (identity) => {
  expect(identityOfSubject(subjectOfIdentity(identity))).toEqual(identity);
});

test.each([
  {},
  { CN: 'node-a' },
  { O: 'understudy:node' },
  { O: 'understudy:node', CN: '' },
  { O: 'understudy:admin', CN: 'a' },
  { O: 'node', CN: 'a' },
  { O: 'understudy:', CN: 'a' },
  { O: ['understudy:operator', 'understudy:node'], CN: 'a' },
  { O: 'understudy:node', CN: ['a', 'b'] },
])('%o names nobody', (subject) => {
  expect(identityOfSubject(subject)).toBeUndefined();
});
