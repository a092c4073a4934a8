import { type Clock, delay } from '../../common/clock.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import type { ContainerRef, PodExec, RunningCommand } from '../kube/pod-exec.ts';
import { type Pod, pods } from '../resources/core-kinds.ts';
import { parseDurationMs } from '../resources/duration.ts';
import type { PostHook, PreHook } from '../resources/snapshot-hooks.ts';

/** One command of a hook in one container. */
export interface HookTarget<Hook extends PreHook | PostHook = PreHook | PostHook> {
  readonly hook: Hook;
  readonly container: ContainerRef;
  /** "pre[0] in postgresql-0/postgresql" */
  readonly name: string;
}

export interface Targets<Hook extends PreHook | PostHook> {
  readonly found: readonly HookTarget<Hook>[];
  /** Hooks for which no pod runs. */
  readonly missing: readonly { readonly hook: Hook; readonly problem: string }[];
}

/** Where hooks are to run now: in every running pod that their labels fit. */
export async function findTargets<Hook extends PreHook | PostHook>(
  api: KubeApi,
  namespace: string,
  when: 'pre' | 'post',
  hooks: readonly Hook[],
): Promise<Targets<Hook>> {
  const found: HookTarget<Hook>[] = [];
  const missing: { hook: Hook; problem: string }[] = [];
  for (const [index, hook] of hooks.entries()) {
    const labelSelector = selectorText(hook.podSelector.matchLabels);
    const { items } = await api.list(pods, { namespace, labelSelector });
    const running = items.filter(isRunning);
    const name = `${when}[${index}]`;
    if (running.length === 0) missing.push({ hook, problem: `${name}: no pod with ${labelSelector} runs` });
    for (const { metadata } of running) {
      const container = { namespace, pod: metadata.name, container: hook.container };
      const place = hook.container === undefined ? metadata.name : `${metadata.name}/${hook.container}`;
      found.push({ hook, container, name: `${name} in ${place}` });
    }
  }
  return { found, missing };
}

function selectorText(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(',');
}

function isRunning({ metadata, status }: Pod): boolean {
  return status?.phase === 'Running' && metadata.deletionTimestamp === undefined;
}

/** Runs a command to its end. @throws UnderstudyError that says which, and what it said */
export async function runToEnd(api: PodExec, clock: Clock, { hook, container, name }: HookTarget): Promise<void> {
  await withCommand(api, clock, { hook, container, name }, async (command) => {
    // What it writes has to be read, or it might wait for that.
    void drain(command);
    await checkedEnd(command, name);
    return undefined;
  });
}

/** Starts a command that holds an application, and waits until it says that it does. */
export async function startHold(api: PodExec, clock: Clock, target: HookTarget<PreHook>): Promise<RunningCommand> {
  return await withCommand(api, clock, target, async (command) => {
    const wanted = target.hook.hold?.ready;
    for (;;) {
      const line = await command.nextLine();
      if (line === undefined) {
        await checkedEnd(command, target.name);
        throw new UnderstudyError('Invalid', `${target.name}: it ended before it said that the application is held`);
      }
      if (wanted === undefined || line.trim() === wanted) break;
    }
    void drain(command);
    return command;
  });
}

/** Tells a hold to end, and waits until it has, within the hook's timeout. @throws as runToEnd */
export async function endHold(clock: Clock, command: RunningCommand, { hook, name }: HookTarget): Promise<void> {
  command.tellToEnd();
  await within(clock, parseDurationMs(hook.timeout), name, checkedEnd(command, name)).catch((error: unknown) => {
    command.leave();
    throw error;
  });
}

/** Starts a command and waits for the first step with it, together no longer than the hook's timeout. */
async function withCommand<Result>(
  api: PodExec,
  clock: Clock,
  { hook, container, name }: HookTarget,
  step: (command: RunningCommand) => Promise<Result>,
): Promise<Result> {
  let isLate = false;
  const starting = api.exec(container, hook.command).then((command) => {
    if (isLate) command.leave();
    return command;
  });
  try {
    return await within(clock, parseDurationMs(hook.timeout), name, starting.then(step));
  } catch (error) {
    isLate = true;
    starting.then((command) => command.leave()).catch(() => undefined);
    if (error instanceof UnderstudyError && error.message.startsWith(name)) throw error;
    throw new UnderstudyError('Unavailable', `${name}: ${errorMessage(error)}`, { cause: error });
  }
}

async function checkedEnd(command: RunningCommand, name: string): Promise<void> {
  const { exitCode, stderr } = await command.ended;
  if (exitCode === 0) return;
  throw new UnderstudyError('Invalid', `${name} ended with exit code ${exitCode}${stderr === '' ? '' : `: ${stderr}`}`);
}

async function drain(command: RunningCommand): Promise<void> {
  while ((await command.nextLine()) !== undefined);
}

async function within<Result>(clock: Clock, timeoutMs: number, name: string, work: Promise<Result>): Promise<Result> {
  const inTime = new AbortController();
  const late = delay(clock, timeoutMs, inTime.signal).then(() => {
    throw new UnderstudyError('Timeout', `${name} was not done within ${timeoutMs} ms`);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    late.catch(() => undefined);
    inTime.abort();
  }
}
