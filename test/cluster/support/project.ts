import { join } from 'node:path';

/** The root of the project. */
export const projectDirectory = join(import.meta.dirname, '..', '..', '..');
