import { STATUS_CODES } from 'node:http';
import { type ErrorCode, errorCode, errorMessage, UnderstudyError } from '../../common/errors.ts';
import { formatPath, type Violation } from '../../common/validation.ts';
import type { Problem } from './contract/problem.ts';

/** The one mapping from errors to HTTP: 409 for what the state of things forbids, 503 for what is worth trying again. */
const statusOfCode: Readonly<Record<ErrorCode, number>> = {
  Invalid: 400,
  NotFound: 404,
  AlreadyExists: 409,
  Conflict: 409,
  InUse: 409,
  Fenced: 409,
  ReadOnly: 409,
  Io: 500,
  Corrupt: 500,
  Internal: 500,
  Protocol: 502,
  NotReady: 503,
  Unavailable: 503,
  Closed: 503,
  Timeout: 504,
  NoSpace: 507,
};

/** Seconds that a client should wait before it repeats a request that was answered 503. */
const retryAfterSeconds = 1;

/** An HTTP answer to an error. */
export interface ProblemAnswer {
  readonly problem: Problem;
  readonly headers: Readonly<Record<string, string>>;
}

/** A request whose parameters or body do not fit the contract. */
export class InvalidRequest extends UnderstudyError {
  readonly violations: readonly Violation[];

  constructor(violations: readonly Violation[]) {
    const described = violations.map(({ path, message }) =>
      path.length > 0 ? `${formatPath(path)}: ${message}` : message,
    );
    super('Invalid', described.join('; '));
    this.violations = violations;
  }
}

/** An error that belongs to HTTP itself: an unknown route, a body that is too large or that is not JSON. */
export class HttpError extends UnderstudyError {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(status === 404 ? 'NotFound' : 'Invalid', message);
    this.status = status;
    this.headers = headers;
  }
}

/**
 * The answer to any thrown value. A defect of ours is not described to the client: the log has it, under the same
 * request id.
 */
export function problemOf(error: unknown, requestId: string): ProblemAnswer {
  if (error instanceof HttpError) return answer(error.status, error.code, error.message, error.headers);
  const httpStatus = frameworkStatus(error);
  if (httpStatus !== undefined) return answer(httpStatus, 'Invalid', errorMessage(error));
  const code = errorCode(error);
  const status = statusOfCode[code];
  const detail =
    code === 'Internal' ? `an internal error; the agent's log has it as request ${requestId}` : errorMessage(error);
  const headers = status === 503 ? { 'retry-after': String(retryAfterSeconds) } : undefined;
  const { problem, ...rest } = answer(status, code, detail, headers);
  if (!(error instanceof InvalidRequest)) return { problem, ...rest };
  const errors = error.violations.map(({ path, message }) => ({ path: formatPath(path), message }));
  return { problem: { ...problem, errors }, ...rest };
}

function answer(
  status: number,
  code: ErrorCode,
  detail: string,
  headers: Readonly<Record<string, string>> = {},
): ProblemAnswer {
  const title = STATUS_CODES[status] ?? 'Error';
  return { problem: { type: 'about:blank', title, status, detail, code }, headers };
}

/** The 4xx status of an error that fastify raised before a handler saw the request; its messages are meant for clients. */
function frameworkStatus(error: unknown): number | undefined {
  if (!(error instanceof Error) || error instanceof UnderstudyError) return undefined;
  if (!('statusCode' in error) || typeof error.statusCode !== 'number') return undefined;
  return error.statusCode >= 400 && error.statusCode < 500 ? error.statusCode : undefined;
}
