/** Remembers which methods each route has, to tell an unknown path from a known one with another method. */
export class KnownMethods {
  readonly #routes = new Map<string, { readonly pattern: RegExp; readonly methods: Set<string> }>();

  /** `url` is a pattern such as /v1/volumes/:volume. */
  add(url: string, methods: string | readonly string[]): void {
    const pattern = new RegExp(`^${url.replace(/[.]/g, '\\$&').replace(/:[A-Za-z]+/g, '[^/]+')}$`);
    const route = this.#routes.get(url) ?? { pattern, methods: new Set<string>() };
    for (const method of [methods].flat()) route.methods.add(method);
    this.#routes.set(url, route);
  }

  /** The methods of a path without its query, sorted; empty if no route has it. */
  of(path: string): string[] {
    for (const { pattern, methods } of this.#routes.values()) {
      if (pattern.test(path)) return [...methods].toSorted();
    }
    return [];
  }
}
