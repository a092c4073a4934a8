import { type ErrorCode, errorCode, UnderstudyError } from '../errors.ts';

/**
 * The gRPC status codes that CSI uses.
 * Source: https://github.com/container-storage-interface/spec/blob/master/spec.md#error-scheme
 */
export const statusCode = {
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
} as const;

export type CsiStatus = keyof typeof statusCode;

/** An error for which CSI asks for a status that does not follow from our own code. */
export class CsiError extends UnderstudyError {
  readonly status: CsiStatus;

  constructor(status: CsiStatus, message: string, options: { cause?: unknown } = {}) {
    super(codeOfStatus[status], message, options);
    this.status = status;
  }
}

const codeOfStatus: Readonly<Record<CsiStatus, ErrorCode>> = {
  INVALID_ARGUMENT: 'Invalid',
  DEADLINE_EXCEEDED: 'Timeout',
  NOT_FOUND: 'NotFound',
  ALREADY_EXISTS: 'AlreadyExists',
  RESOURCE_EXHAUSTED: 'NoSpace',
  FAILED_PRECONDITION: 'Conflict',
  ABORTED: 'NotReady',
  OUT_OF_RANGE: 'Invalid',
  UNIMPLEMENTED: 'Invalid',
  INTERNAL: 'Internal',
  UNAVAILABLE: 'Unavailable',
  DATA_LOSS: 'Corrupt',
};

/** The one mapping from errors to gRPC. The caller tries again after all of them; UNAVAILABLE says that it is worth it. */
const statusOfCode: Readonly<Record<ErrorCode, CsiStatus>> = {
  Invalid: 'INVALID_ARGUMENT',
  NotFound: 'NOT_FOUND',
  AlreadyExists: 'ALREADY_EXISTS',
  Conflict: 'FAILED_PRECONDITION',
  InUse: 'FAILED_PRECONDITION',
  Fenced: 'FAILED_PRECONDITION',
  ReadOnly: 'FAILED_PRECONDITION',
  NoSpace: 'RESOURCE_EXHAUSTED',
  NotReady: 'UNAVAILABLE',
  Unavailable: 'UNAVAILABLE',
  Closed: 'UNAVAILABLE',
  Timeout: 'DEADLINE_EXCEEDED',
  Corrupt: 'DATA_LOSS',
  Io: 'INTERNAL',
  Protocol: 'INTERNAL',
  Internal: 'INTERNAL',
};

export function statusOf(error: unknown): CsiStatus {
  return error instanceof CsiError ? error.status : statusOfCode[errorCode(error)];
}
