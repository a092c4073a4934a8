/**
 * Freezing a mounted filesystem so that nothing, not even a crash of this agent, leaves it frozen.
 *
 * The freeze is held by a child process, the watchdog, in a session of its own. It thaws when its standard input is
 * closed, which the agent does to thaw and the kernel does when the agent dies, or when its time is up. It freezes by
 * itself, too: if that takes so long that the agent has given up meanwhile, it thaws the moment it has frozen.
 *
 * If the watchdog is killed as well (a container is killed as a whole), the filesystem stays frozen until the next start
 * of the agent, which thaws every mount it knows.
 */
import { type Clock, delay } from '../../common/clock.ts';
import { UnderstudyError } from '../../common/errors.ts';
import type { Commands, Dialogue } from './commands.ts';

export interface Freeze {
  /**
   * Thaws, and says what the freeze was worth: true if the filesystem was frozen all the time until this was called,
   * false if it had thawed by itself before, because time was up or the watchdog died.
   */
  end(): Promise<boolean>;
}

/**
 * Signals meant to end the watchdog must not leave a frozen filesystem, so it ignores them, as what it starts then does:
 * hence KILL to end cat when time is up. timeout(1) ends with 0 only if cat saw the end of its input before.
 */
const watchdogScript = `
trap '' TERM INT HUP
fsfreeze --freeze "$1" || exit 3
echo frozen
timeout --signal=KILL "$2" cat >/dev/null || echo expired
fsfreeze --unfreeze "$1"
`;

/**
 * Freezes the filesystem mounted at `mountPoint`, for at most `timeoutMs`.
 * @throws UnderstudyError Timeout when it could not be frozen within `timeoutMs`; Io with what fsfreeze(8) said.
 */
export async function freezeFilesystem(
  host: { commands: Commands; clock: Clock },
  mountPoint: string,
  options: { timeoutMs: number },
): Promise<Freeze> {
  const seconds = (options.timeoutMs / 1000).toFixed(3);
  const watchdog = host.commands.startDialogue('/bin/sh', ['-c', watchdogScript, 'sh', mountPoint, seconds]);
  const waiting = new AbortController();
  const first = await Promise.race([
    watchdog.nextLine(),
    delay(host.clock, options.timeoutMs, waiting.signal).then(
      () => 'late' as const,
      () => 'late' as const,
    ),
  ]);
  waiting.abort();
  if (first === 'frozen') return { end: once(() => endFreeze(host.commands, watchdog, mountPoint)) };
  watchdog.endInput();
  if (first === 'late') {
    throw new UnderstudyError('Timeout', `${mountPoint} could not be frozen within ${options.timeoutMs} ms`);
  }
  const { stderr } = await watchdog.ended;
  throw new UnderstudyError('Io', `${mountPoint} could not be frozen: ${stderr.trim() || 'fsfreeze failed'}`);
}

async function endFreeze(commands: Commands, watchdog: Dialogue, mountPoint: string): Promise<boolean> {
  watchdog.endInput();
  const expired = (await watchdog.nextLine()) === 'expired';
  const { exitCode } = await watchdog.ended;
  if (exitCode === 0) return !expired;
  // It was killed, or could not thaw: that must not be the last word. An error here means that it is not frozen.
  await commands.run('fsfreeze', ['--unfreeze', mountPoint]).catch(() => {});
  return false;
}

function once<T>(task: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | undefined;
  return () => {
    result ??= task();
    return result;
  };
}
