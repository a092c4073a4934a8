import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Cleanup } from './cleanup.ts';
import type { Report } from './report.ts';

/** What every part of the demo works with. */
export interface Stage {
  report: Report;
  cleanup: Cleanup;
  /** Everything the demo makes is below it. */
  folder: string;
  /** Aborts when the demo is to end early. */
  interrupted: AbortSignal;
}

/** A new folder for the demo, to be removed at its end. */
export function makeFolder(cleanup: Cleanup): string {
  // Short, since the paths of unix sockets are limited.
  const folder = mkdtempSync(join(tmpdir(), 'understudy-demo-'));
  // PostgreSQL runs as another user and has to get through.
  chmodSync(folder, 0o711);
  cleanup.add(`remove ${folder}`, () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
