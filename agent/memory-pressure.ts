import type { Log } from '../common/log.ts';
import { becomeIoFlusher, errnoName, isIoFlusher } from './store/syscalls.ts';

/**
 * A block server in user space must not wait for itself: a filesystem on one of its volumes has dirty pages that only it
 * can write out, so the kernel must not make it write pages out first when it needs memory.
 *
 * That is told of one thread, those that it starts inherit it, and V8 has started some before the first line of JavaScript
 * runs, on which its garbage collection waits. So this process begins anew, with the same number and the same arguments, as
 * a thread of which it has been told: call this before there is anything to lose. Without the right to it the agent works,
 * and says what is missing.
 *
 * Its memory is not locked: V8 gives pages of its heaps back with madvise(MADV_DONTNEED), which the kernel refuses for
 * locked memory, and V8 then ends the process. What keeps it from being swapped out is a node without swap, as
 * Kubernetes asks for, or `memory.swap.max` = 0 for its control group.
 */
export function guardAgainstMemoryPressure(log: Log): void {
  if (isIoFlusher()) return;
  const result = becomeIoFlusher();
  if (result === 0) return beginAnew();
  log.warn(
    { errno: errnoName(-result) },
    'the agent may not become an I/O flusher (CAP_SYS_RESOURCE): under memory pressure, volumes mounted on this node may hang',
  );
}

/** Does not return: execve(2). */
function beginAnew(): void {
  process.execve?.(process.execPath, [process.execPath, ...process.execArgv, ...process.argv.slice(1)]);
}
