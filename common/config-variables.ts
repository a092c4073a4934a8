import type { Violation } from './validation.ts';

/** Variables by name, as process.env has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** `${NAME}`; with another dollar sign before it, it stands for itself. */
const reference = /(\$?)\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g;

/**
 * Replaces `${NAME}` by the variable of that name in every text of a configuration, keys excepted. `$${NAME}` is the text
 * `${NAME}`. A variable that is not set is a mistake and never an empty text: a node without a name would be another one.
 */
export function expandVariables(value: unknown, environment: Environment): { value: unknown; missing: Violation[] } {
  const missing: Violation[] = [];
  const expand = (part: unknown, path: readonly (string | number)[]): unknown => {
    if (typeof part === 'string') {
      return part.replace(reference, (text, dollar: string, name: string) => {
        if (dollar !== '') return text.slice(1);
        const found = environment[name];
        if (found === undefined) missing.push({ path, message: `the environment variable ${name} is not set` });
        return found ?? text;
      });
    }
    if (Array.isArray(part)) return part.map((item, index) => expand(item, [...path, index]));
    if (typeof part !== 'object' || part === null) return part;
    return Object.fromEntries(Object.entries(part).map(([key, item]) => [key, expand(item, [...path, key])]));
  };
  return { value: expand(value, []), missing };
}
