/**
 * Resolves with what the condition returns once that is neither false, null nor undefined, asking again every
 * `intervalMs`. An exception of the condition ends the wait at once.
 * @throws Error after `timeoutMs`, naming `what`.
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  options: { timeoutMs: number; intervalMs?: number; what?: string },
): Promise<Exclude<T, false | null | undefined>> {
  const deadline = performance.now() + options.timeoutMs;
  for (;;) {
    const result = await condition();
    if (result !== false && result !== null && result !== undefined)
      return result as Exclude<T, false | null | undefined>;
    if (performance.now() >= deadline) {
      throw new Error(`waited ${options.timeoutMs} ms for ${options.what ?? String(condition)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, options.intervalMs ?? 20));
  }
}
