import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Whether a program can be found; a test that needs one which is missing is skipped. */
export function isInstalled(program: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((directory) => existsSync(join(directory, program)));
}
