import { readFileSync } from 'node:fs';

/** The kernel counts it in hundredths of a second for programs (USER_HZ, the same on every architecture that matters). */
const tickUs = 10_000;

/** The processor's time that processes have taken so far, in user mode and in the kernel, with all of their threads. */
export function cpuMicroseconds(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name, in parentheses, may hold anything; fields 14 and 15 are utime and stime (proc(5)).
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return sum + (Number(fields[11]) + Number(fields[12])) * tickUs;
  }, 0);
}
