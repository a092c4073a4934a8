import { UnderstudyError } from '../../common/errors.ts';

/** Volumes, snapshots, mirrors, pools: lower-case DNS labels with dots inside, so that a name is never a path. */
export const namePattern = /^[a-z0-9]([a-z0-9.-]{0,126}[a-z0-9])?$/;

/** @throws UnderstudyError Invalid, naming the kind of thing and what was expected. */
export function checkName(kind: string, name: string): void {
  if (namePattern.test(name) && !name.includes('..')) return;
  throw new UnderstudyError(
    'Invalid',
    `${kind} name ${JSON.stringify(name)} is not valid: expected 1 to 128 characters a-z, 0-9, "-" and ".", beginning and ending with a letter or digit`,
  );
}
