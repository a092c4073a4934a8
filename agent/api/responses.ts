import { z } from 'zod';
import { problemSchema } from './contract/problem.ts';

/** For the OpenAPI document: what every route may answer besides. */
const problem = {
  description: 'What went wrong (RFC 9457). `code` says it for programs, `detail` for people.',
  content: { 'application/problem+json': { schema: problemSchema } },
};

/** The answers of a route: those of its own, and a problem for everything from 400 up. */
export function answers<Own extends object>(own: Own): Own & { '4xx': typeof problem; '5xx': typeof problem } {
  return { ...own, '4xx': problem, '5xx': problem };
}

export function jsonAnswer<Schema extends z.ZodType>(description: string, schema: Schema) {
  return { description, content: { 'application/json': { schema } } };
}

export function emptyAnswer(description: string) {
  return z.undefined().describe(description);
}
