import type { Log } from '../common/log.ts';
import { becomeIoFlusher, errnoName } from './store/syscalls.ts';

/**
 * A block server in user space must not wait for itself: a filesystem on one of its volumes has dirty pages that only it
 * can write out, so the kernel must not make it write pages out first when it needs memory.
 *
 * Call it at the start of the process, before its threads are there: they inherit what is set. Without the right to it
 * the agent works, and says what is missing.
 *
 * Its memory is not locked: V8 gives pages of its heaps back with madvise(MADV_DONTNEED), which the kernel refuses for
 * locked memory, and V8 then ends the process. What keeps it from being swapped out is a node without swap, as
 * Kubernetes asks for, or `memory.swap.max` = 0 for its control group.
 */
export function guardAgainstMemoryPressure(log: Log): void {
  const result = becomeIoFlusher();
  if (result === 0) return;
  log.warn(
    { errno: errnoName(-result) },
    'the agent may not become an I/O flusher (CAP_SYS_RESOURCE): under memory pressure, volumes mounted on this node may hang',
  );
}
