import { z } from 'zod';
import { parseAddress } from '../../../common/address.ts';
import { parseQuantity } from '../../../common/quantity.ts';

/** Names of volumes, snapshots, mirrors, mounts and pools: never a path, whatever is appended to them. */
export const nameSchema = z
  .string()
  .max(128)
  .regex(
    /^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/,
    'expected lower-case letters, digits, "-" and ".", beginning and ending with a letter or digit',
  )
  .refine((name) => !name.includes('..'), 'must not contain ".."');

/** The name of a mirror, or of mirrors one behind the other, separated by "/". */
export const mirrorPathSchema = z.string().superRefine((path, context) => {
  const names = path.split('/');
  if (names.length > 8)
    context.addIssue({ code: 'custom', message: 'expected at most 8 mirrors, one behind the other' });
  for (const name of names) {
    const parsed = nameSchema.safeParse(name);
    if (!parsed.success)
      context.addIssue({
        code: 'custom',
        message: `${JSON.stringify(name)}: ${parsed.error.issues[0]?.message ?? ''}`,
      });
  }
});

/** Bytes, or a Kubernetes quantity such as "10Gi"; parsed into bytes. */
export const sizeSchema = z.union([z.number(), z.string()]).transform((value, context) => {
  try {
    const bytes = parseQuantity(value);
    if (bytes > 0) return bytes;
    context.addIssue({ code: 'custom', message: 'expected a size above zero' });
  } catch (error) {
    context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
  }
  return z.NEVER;
});

/** "host:port", the host a name, an IPv4 address or an IPv6 address in brackets. */
export const addressSchema = z.string().superRefine((text, context) => {
  try {
    if (parseAddress(text).port > 0) return;
    context.addIssue({ code: 'custom', message: 'must have a port above 0' });
  } catch (error) {
    context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
  }
});

/** Grows by one at each change of primary. */
export const epochSchema = z.number().int().positive();
