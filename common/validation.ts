import type { z } from 'zod';
import { nearest } from './nearest.ts';

/** One thing that is wrong with an input. */
export interface Violation {
  /** The way to the key that is wrong, e.g. ['pools', 0, 'directory']; empty for the input as a whole. */
  readonly path: readonly (string | number)[];
  /** What was expected and what was there instead, for people. */
  readonly message: string;
}

export type Validation<Value> =
  | { readonly ok: true; readonly value: Value }
  | { readonly ok: false; readonly violations: readonly Violation[] };

type Issue = z.core.$ZodIssue;
type RawIssue = z.core.$ZodRawIssue;

/**
 * Checks an input from outside (a configuration file, a request) against a schema. Unlike zod's own messages, those of
 * the violations always name what was expected and what was there, and suggest a known key for an unknown one that
 * looks like it. A schema's own messages are kept; when they begin with "expected" or "must", what was there is added.
 */
export function validate<Schema extends z.ZodType>(schema: Schema, input: unknown): Validation<z.output<Schema>> {
  const result = schema.safeParse(input, { error: expectation, reportInput: true });
  if (result.success) return { ok: true, value: result.data };
  return { ok: false, violations: firstOfEachKey(result.error.issues.flatMap(violationsOf)) };
}

/** `pools[0].directory`; "" for the input as a whole. */
export function formatPath(path: readonly (string | number)[]): string {
  return path
    .map((part, index) => {
      if (typeof part === 'number') return `[${part}]`;
      if (!/^[A-Za-z_][A-Za-z0-9_-]*$/.test(part)) return `[${JSON.stringify(part)}]`;
      return index === 0 ? part : `.${part}`;
    })
    .join('');
}

/** A value as a message shows it: short, and without what is inside a larger one. */
export function describeValue(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  if (typeof value === 'object') return 'an object';
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

/** What is wrong besides, with a key that is wrong already, mostly follows from it. */
function firstOfEachKey(violations: readonly Violation[]): Violation[] {
  const seen = new Set<string>();
  return violations.filter(({ path }) => {
    const key = JSON.stringify(path);
    return !seen.has(key) && seen.add(key);
  });
}

function violationsOf(issue: Issue): Violation[] {
  const path = issue.path.map((part) => (typeof part === 'number' ? part : String(part)));
  if (issue.code === 'unrecognized_keys') {
    const messages = issue.message.split('\n');
    return issue.keys.map((key, index) => ({ path: [...path, key], message: messages[index] ?? issue.message }));
  }
  if (issue.code === 'invalid_union') {
    const branch = closestBranch(issue);
    if (branch) {
      return branch.flatMap(violationsOf).map((inner) => ({ ...inner, path: [...path, ...inner.path] }));
    }
  }
  return [{ path, message: withActual(issue) }];
}

/** The branch of a union that the input was probably meant for; undefined if it has the wrong type for all of them. */
function closestBranch(issue: z.core.$ZodIssueInvalidUnion): Issue[] | undefined {
  const fitting = issue.errors.filter((issues) => !issues.some(isOfAnotherType));
  return fitting.toSorted((a, b) => a.length - b.length)[0];
}

function isOfAnotherType(issue: Issue): boolean {
  return issue.path.length === 0 && (issue.code === 'invalid_type' || issue.code === 'invalid_value');
}

function withActual(issue: Issue): string {
  if (!/^(expected|must)\b/.test(issue.message)) return issue.message;
  if (issue.input === undefined) return `missing: ${issue.message}`;
  return `${issue.message}, got ${describeValue(issue.input)}`;
}

/** zod calls this for every issue whose schema has no message of its own. */
function expectation(issue: RawIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `expected ${typeName(issue.expected)}`;
    case 'invalid_value':
      return `expected ${oneOf(issue.values.map(describeValue))}`;
    case 'too_small':
      return `expected ${bound(issue.origin, issue.inclusive === false ? 'more than' : 'at least', issue.minimum)}`;
    case 'too_big':
      return `expected ${bound(issue.origin, issue.inclusive === false ? 'less than' : 'at most', issue.maximum)}`;
    case 'not_multiple_of':
      return `expected a multiple of ${issue.divisor}`;
    case 'invalid_format':
      return issue.pattern === undefined ? `expected a valid ${issue.format}` : `expected text like ${issue.pattern}`;
    case 'unrecognized_keys':
      return issue.keys.map((key) => unknownKey(key, knownKeys(issue.inst))).join('\n');
    case 'invalid_union':
      return `expected ${oneOf([...new Set(issue.errors.flatMap((branch) => branch.map(expected)))])}`;
    default:
      return 'expected something else';
  }
}

function expected(issue: Issue): string {
  return issue.message.replace(/^expected /, '');
}

function unknownKey(key: string, known: readonly string[]): string {
  const meant = nearest(key, known);
  if (meant !== undefined) return `unknown key ${JSON.stringify(key)}; did you mean ${JSON.stringify(meant)}?`;
  const choice = known.length === 0 ? '' : `; known here: ${known.join(', ')}`;
  return `unknown key ${JSON.stringify(key)}${choice}`;
}

function knownKeys(schema: unknown): string[] {
  if (typeof schema !== 'object' || schema === null || !('shape' in schema)) return [];
  return typeof schema.shape === 'object' && schema.shape !== null ? Object.keys(schema.shape) : [];
}

function bound(origin: string, relation: string, limit: number | bigint): string {
  switch (origin) {
    case 'string':
      return `${relation} ${limit} ${limit === 1 ? 'character' : 'characters'}`;
    case 'array':
    case 'set':
      return `${relation} ${limit} ${limit === 1 ? 'entry' : 'entries'}`;
    default:
      return `${relation} ${limit}`;
  }
}

function oneOf(choices: readonly string[]): string {
  if (choices.length < 2) return choices.join('');
  return `${choices.slice(0, -1).join(', ')} or ${choices.at(-1)}`;
}

function typeName(type: string): string {
  switch (type) {
    case 'int':
      return 'a whole number';
    case 'array':
      return 'a list';
    case 'boolean':
      return 'true or false';
    case 'object':
    case 'record':
      return 'an object';
    default:
      return `a ${type}`;
  }
}
