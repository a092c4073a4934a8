import { errorCode, systemErrorCode, UnderstudyError } from '../../common/errors.ts';
import { errnoName } from './syscalls.ts';

/** Turns what the operating system raised into an error of ours that names the action and the file. */
export function diskError(action: string, path: string, cause: unknown): UnderstudyError {
  if (cause instanceof UnderstudyError) return cause;
  const code = errorCode(cause);
  const hint = code === 'NoSpace' ? '; free space on its file system or make the volume smaller' : '';
  const detail = systemErrorCode(cause) ?? (cause instanceof Error ? cause.message : String(cause));
  return new UnderstudyError(code === 'Internal' ? 'Io' : code, `cannot ${action} ${path}: ${detail}${hint}`, {
    labels: { path },
    cause,
  });
}

/** The same for the negative errno of a bare system call. */
export function errnoError(action: string, path: string, negativeErrno: number): UnderstudyError {
  const name = errnoName(-negativeErrno);
  return diskError(action, path, Object.assign(new Error(name), { code: name }));
}
