import type { Log } from '../common/log.ts';
import { becomeIoFlusher, errnoName, lockMemory } from './store/syscalls.ts';

/**
 * Guards this process against memory pressure.
 *
 * A block server in user space must not wait for itself: a filesystem on one of its volumes has dirty pages that only it
 * can write out, so under memory pressure it must neither be swapped out nor made to write pages out first.
 *
 * Call it at the start of the process, before its threads are there: they inherit what is set. Without the rights for
 * it the agent works, and says what is missing.
 */
export function guardAgainstMemoryPressure(log: Log): void {
  const guards = [
    { what: 'marked as I/O flusher (CAP_SYS_RESOURCE)', set: becomeIoFlusher },
    { what: 'locked in memory (CAP_IPC_LOCK)', set: lockMemory },
  ];
  for (const { what, set } of guards) {
    const result = set();
    if (result < 0) {
      log.warn(
        { errno: errnoName(-result) },
        `the agent is not ${what}: under memory pressure, volumes that are mounted on this node may hang`,
      );
    }
  }
}
