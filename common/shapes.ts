/**
 * Checks of plain data, as zod does them and written in the same way, for what every volume's thread loads: zod itself takes
 * 7 MiB in each thread. Only what messages between agents and records on disk need is here; whatever people write is
 * checked with zod, which explains mistakes better.
 *
 * `import * as z from '…/shapes.ts'`, then `z.object({ epoch: z.number().int().positive() })` and `z.output<typeof …>`.
 * As in zod, keys that an object's shape does not know are left out.
 */
export class Shape<T> {
  readonly #check: (value: unknown, path: string) => T;

  constructor(check: (value: unknown, path: string) => T) {
    this.#check = check;
  }

  /** @throws ShapeError which names the first thing that does not fit */
  parse(value: unknown, path = ''): T {
    return this.#check(value, path);
  }

  safeParse(value: unknown): { success: true; data: T } | { success: false; error: ShapeError } {
    try {
      return { success: true, data: this.parse(value) };
    } catch (error) {
      if (error instanceof ShapeError) return { success: false, error };
      throw error;
    }
  }

  /** The same, or nothing. */
  optional(): Shape<T | undefined> {
    return new Shape((value, path) => (value === undefined ? undefined : this.parse(value, path)));
  }

  /** The same, if the predicate holds as well. */
  where(predicate: (value: T) => boolean, expected: string): Shape<T> {
    return new Shape((value, path) => {
      const parsed = this.parse(value, path);
      return predicate(parsed) ? parsed : fail(value, path, expected);
    });
  }
}

export class ShapeError extends Error {
  override readonly name = 'ShapeError';
}

export type output<S> = S extends Shape<infer T> ? T : never;

class NumberShape extends Shape<number> {
  constructor(check: (value: unknown, path: string) => number = checkNumber) {
    super(check);
  }

  int(): NumberShape {
    return this.#and(Number.isSafeInteger, 'an integer');
  }

  positive(): NumberShape {
    return this.#and((value) => value > 0, 'a number above 0');
  }

  min(least: number): NumberShape {
    return this.#and((value) => value >= least, `a number of at least ${least}`);
  }

  #and(predicate: (value: number) => boolean, expected: string): NumberShape {
    const both = this.where(predicate, expected);
    return new NumberShape((value, path) => both.parse(value, path));
  }
}

function checkNumber(value: unknown, path: string): number {
  return typeof value === 'number' && Number.isFinite(value) ? value : fail(value, path, 'a number');
}

export const number = () => new NumberShape();

export const string = () =>
  new Shape((value, path): string => (typeof value === 'string' ? value : fail(value, path, 'a string')));

export const boolean = () =>
  new Shape((value, path): boolean => (typeof value === 'boolean' ? value : fail(value, path, 'true or false')));

export function literal<const T extends string | number | boolean>(expected: T): Shape<T> {
  return new Shape((value, path) => (value === expected ? expected : fail(value, path, JSON.stringify(expected))));
}

function oneOf<const T extends string>(known: readonly T[]): Shape<T> {
  return new Shape((value, path) => {
    const found = known.find((candidate) => candidate === value);
    return found ?? fail(value, path, `one of ${known.join(', ')}`);
  });
}

export { oneOf as enum };

export function union<const S extends readonly Shape<unknown>[]>(shapes: S): Shape<output<S[number]>> {
  return new Shape((value, path) => {
    for (const shape of shapes) {
      const result = shape.safeParse(value);
      if (result.success) return result.data as output<S[number]>;
    }
    return fail(value, path, 'another value');
  });
}

export function array<T>(items: Shape<T>): Shape<T[]> {
  return new Shape((value, path) => {
    if (!Array.isArray(value)) return fail(value, path, 'a list');
    return value.map((item, index) => items.parse(item, `${path}[${index}]`));
  });
}

type Fields = Readonly<Record<string, Shape<unknown>>>;
type OptionalKeys<F extends Fields> = { [K in keyof F]: undefined extends output<F[K]> ? K : never }[keyof F];
type ObjectOf<F extends Fields> = {
  [K in keyof ({ [K in Exclude<keyof F, OptionalKeys<F>>]: 0 } & { [K in OptionalKeys<F>]?: 0 })]: output<F[K]>;
};

export function object<F extends Fields>(fields: F): Shape<ObjectOf<F>> {
  const entries = Object.entries(fields);
  return new Shape((value, path) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return fail(value, path, 'an object');
    const found = new Map<string, unknown>(Object.entries(value));
    const checked: Record<string, unknown> = {};
    for (const [key, shape] of entries) {
      const part = shape.parse(found.get(key), path === '' ? key : `${path}.${key}`);
      if (part !== undefined) checked[key] = part;
    }
    return checked as ObjectOf<F>;
  });
}

function fail(value: unknown, path: string, expected: string): never {
  const found = value === undefined ? 'nothing' : (JSON.stringify(value)?.slice(0, 100) ?? typeof value);
  throw new ShapeError(`${path === '' ? '' : `${path}: `}expected ${expected}, found ${found}`);
}
