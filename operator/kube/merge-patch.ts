/** A JSON merge patch applied to a value, which is not changed. Source: RFC 7386. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isPlainObject(patch)) return patch;
  const result = new Map<string, unknown>(isPlainObject(target) ? Object.entries(target) : []);
  for (const [key, value] of Object.entries(patch)) {
    if (value === undefined) continue;
    if (value === null) result.delete(key);
    else result.set(key, mergePatch(result.get(key), value));
  }
  return Object.fromEntries(result);
}

/**
 * The merge patch that makes `after` of `before`, or undefined if they are equal. Keys that are undefined count as absent.
 */
export function diffPatch(before: object, after: object): Record<string, unknown> | undefined {
  const patch: Record<string, unknown> = {};
  const old = new Map<string, unknown>(Object.entries(before));
  const wanted = new Map<string, unknown>(Object.entries(after).filter(([, value]) => value !== undefined));
  for (const [key, value] of wanted) {
    const previous = old.get(key);
    if (isPlainObject(previous) && isPlainObject(value)) {
      const inner = diffPatch(previous, value);
      if (inner !== undefined) patch[key] = inner;
    } else if (!equalJson(previous, value)) patch[key] = value;
  }
  for (const [key, value] of old) if (value !== undefined && !wanted.has(key)) patch[key] = null;
  return Object.keys(patch).length === 0 ? undefined : patch;
}

/** Whether two values are the same as JSON: keys that are undefined are absent, and their order does not matter. */
export function equalJson(a: unknown, b: unknown): boolean {
  if (Array.isArray(a) || Array.isArray(b)) {
    return Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((item, i) => equalJson(item, b[i]));
  }
  if (isPlainObject(a) && isPlainObject(b)) return diffPatch(a, b) === undefined;
  return Object.is(a, b);
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
