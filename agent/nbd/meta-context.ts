import { UnderstudyError } from '../../common/errors.ts';

/** A metadata context that a client has selected, with the number under which block status replies name it. */
export interface SelectedContext {
  readonly id: number;
  readonly name: string;
}

/**
 * The contexts that match at least one query of LIST_META_CONTEXT; all of them if there is none. A query that ends with
 * a colon stands for everything that begins with it: "base:", "qemu:", "qemu:dirty-bitmap:".
 * @throws UnderstudyError Invalid for a query without a namespace.
 */
export function listContexts(available: readonly string[], queries: readonly string[]): string[] {
  if (queries.length === 0) return [...available];
  queries.forEach(checkQuery);
  const exact = new Set(queries);
  const prefixes = [...exact].filter((query) => query.endsWith(':'));
  return available.filter((name) => exact.has(name) || prefixes.some((prefix) => name.startsWith(prefix)));
}

/**
 * The contexts that SET_META_CONTEXT selects: exact names only, others are ignored, as the protocol asks.
 * @throws UnderstudyError Invalid for a query without a namespace.
 */
export function selectContexts(available: readonly string[], queries: readonly string[]): SelectedContext[] {
  queries.forEach(checkQuery);
  const wanted = new Set(queries);
  return available.flatMap((name, index) => (wanted.has(name) ? [{ id: index + 1, name }] : []));
}

function checkQuery(query: string): void {
  if (query.indexOf(':') < 1) {
    throw new UnderstudyError('Invalid', `"${query}" is no query for metadata contexts: expected namespace:name`);
  }
}
