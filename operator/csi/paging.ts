import { CsiError } from '../../common/csi/csi-error.ts';

/**
 * One page of a list whose order does not change: the token is the key after which it goes on. What was added or removed
 * between two pages does no harm.
 * @throws CsiError ABORTED for a token that no page has given, as CSI asks; INVALID_ARGUMENT for a number below zero
 */
export function pageOf<T>(
  all: readonly T[],
  keyOf: (item: T) => string,
  { maxEntries, startingToken }: { maxEntries: number; startingToken: string },
): { readonly items: readonly T[]; readonly nextToken: string } {
  if (maxEntries < 0) throw new CsiError('INVALID_ARGUMENT', `max_entries must not be negative, got ${maxEntries}`);
  const after = startingToken === '' ? undefined : decodeToken(startingToken);
  const rest = all
    .toSorted((a, b) => compare(keyOf(a), keyOf(b)))
    .filter((item) => after === undefined || compare(keyOf(item), after) > 0);
  const items = maxEntries === 0 ? rest : rest.slice(0, maxEntries);
  const last = items.at(-1);
  const isWhole = items.length === rest.length || last === undefined;
  return { items, nextToken: isWhole ? '' : encodeToken(keyOf(last)) };
}

const prefix = 'after:';

function encodeToken(key: string): string {
  return Buffer.from(prefix + key).toString('base64url');
}

function decodeToken(token: string): string {
  const text = Buffer.from(token, 'base64url').toString();
  if (text.startsWith(prefix) && encodeToken(text.slice(prefix.length)) === token) return text.slice(prefix.length);
  throw new CsiError('ABORTED', `${JSON.stringify(token)} is no token of this list: begin it anew`);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
