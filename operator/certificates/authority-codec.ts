import { z } from 'zod';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Secret } from '../resources/platform-kinds.ts';
import type { Authority } from './authorities.ts';

/** The key of the Secret that has all authorities, as JSON. */
const secretKey = 'authorities.json';
export const bundleKey = 'ca.crt';
/** Set to "true" on the Secret, it has a new authority made. */
export const rotateAnnotation = 'understudy.dev/rotate';

const authoritySchema = z.object({
  id: z.string(),
  certificate: z.string(),
  key: z.string(),
  notBeforeMs: z.number(),
  notAfterMs: z.number(),
  state: z.enum(['next', 'active', 'retired']),
  sinceMs: z.number().optional(),
});
const contentSchema = z.object({ version: z.literal(1), authorities: z.array(authoritySchema).max(16) });

/** @throws UnderstudyError Corrupt: nothing is made in place of what cannot be read, since that would cut off everybody. */
export function decodeAuthorities({ metadata, data }: Secret): readonly Authority[] {
  const what = `Secret ${metadata.namespace}/${metadata.name}`;
  const encoded = data?.[secretKey];
  if (encoded === undefined) {
    throw new UnderstudyError('Corrupt', `${what} has no key ${secretKey}; if it is not needed, delete it`);
  }
  try {
    return contentSchema.parse(JSON.parse(Buffer.from(encoded, 'base64').toString('utf8'))).authorities;
  } catch (cause) {
    const message = `${what} does not hold authorities (${errorMessage(cause)}); restore it, or delete it to start anew`;
    throw new UnderstudyError('Corrupt', message, { cause });
  }
}

export function encodeAuthorities(authorities: readonly Authority[]): Record<string, string> {
  const text = JSON.stringify({ version: 1, authorities });
  return { [secretKey]: Buffer.from(text).toString('base64') };
}
