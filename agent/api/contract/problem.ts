import { z } from 'zod';

/** Every error answer. Source: RFC 9457, application/problem+json. */
export const problemSchema = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number(),
  /** What happened to what, and what to do. */
  detail: z.string(),
  /** The error's code, see common/errors.ts. */
  code: z.string(),
  /** For a request that failed validation: each key that was wrong, with what was expected. */
  errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
});

export type Problem = z.output<typeof problemSchema>;
