import { z } from 'zod';
import { problemSchema } from './contract/problem.ts';

/** For the OpenAPI document: what every route may answer besides. */
const anyProblem = {
  description: 'What went wrong (RFC 9457). `code` says it for programs, `detail` for people.',
  content: { 'application/problem+json': { schema: problemSchema } },
};

/** The answers of a route: those of its own, and a problem for everything from 400 up. */
export function answers<Own extends object>(own: Own): Own & { '4xx': typeof anyProblem; '5xx': typeof anyProblem } {
  return { ...own, '4xx': anyProblem, '5xx': anyProblem };
}

export const emptyAnswer = z.undefined();
