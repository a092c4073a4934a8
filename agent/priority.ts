import { readdirSync } from 'node:fs';
import { setPriority } from 'node:os';
import { errorMessage } from '../common/errors.ts';
import type { Log } from '../common/log.ts';

/** Nine times the share of a process of ordinary priority, where there is not enough for both. */
const niceness = -10;

/**
 * Whoever writes to a volume waits for the agents of both its nodes, so a backup that computes on the standby's node must
 * not slow down the primary: an agent goes first.
 *
 * On Linux each thread has a priority of its own: those that are there get it one by one, those of volumes inherit it.
 * Without the right to it the agent works, and says what is missing.
 */
export function raisePriority(log: Log): void {
  try {
    for (const thread of readdirSync('/proc/self/task')) setPriority(Number(thread), niceness);
  } catch (error) {
    log.warn(
      { error: errorMessage(error) },
      'the agent may not raise its priority (CAP_SYS_NICE): processes that compute on this node may slow down its volumes',
    );
  }
}
