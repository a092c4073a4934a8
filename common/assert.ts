import { UnderstudyError } from './errors.ts';

/** Asserts what must hold, in production too: a violated invariant stops the operation before it can do harm. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new UnderstudyError('Internal', `invariant violated: ${message}`);
}
