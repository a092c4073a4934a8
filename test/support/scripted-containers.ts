import type { CommandEnd, ContainerRef, PodExec, RunningCommand } from '../../operator/kube/pod-exec.ts';

/** What a command does: it may write lines, and ends when this is done. */
export type Script = (command: ScriptedCommand) => Promise<number> | number;

/** A command in a container of a test. */
export class ScriptedCommand implements RunningCommand {
  readonly ended: Promise<CommandEnd>;
  /** Resolves when it is told to end, or left. */
  readonly told: Promise<'told' | 'left'>;
  readonly #told = Promise.withResolvers<'told' | 'left'>();
  readonly #lines: string[] = [];
  #waiting: ((line: string | undefined) => void)[] = [];
  #isOver = false;

  constructor(script: Script) {
    this.told = this.#told.promise;
    this.ended = Promise.resolve()
      .then(() => script(this))
      .then((exitCode) => ({ exitCode, stderr: exitCode === 0 ? '' : 'it says why' }))
      .finally(() => {
        this.#isOver = true;
        for (const wake of this.#waiting.splice(0)) wake(undefined);
      });
    this.ended.catch(() => undefined);
  }

  say(line: string): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#lines.push(line);
    else next(line);
  }

  async nextLine(): Promise<string | undefined> {
    const line = this.#lines.shift();
    if (line !== undefined || this.#isOver) return line;
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  tellToEnd(): void {
    this.#told.resolve('told');
  }

  leave(): void {
    this.#told.resolve('left');
  }
}

/** Containers in which commands do what a test says, by their first word; and what was run, in order. */
export class ScriptedContainers implements PodExec {
  /** "checkpoint in shop/db-0" when it starts, "… ended 0" at its end. */
  readonly log: string[] = [];
  readonly scripts = new Map<string, Script>();

  async exec({ namespace, pod }: ContainerRef, command: readonly string[]): Promise<RunningCommand> {
    const [name = ''] = command;
    const script = this.scripts.get(name);
    if (script === undefined) throw new Error(`the test has no command ${name}`);
    const entry = `${name} in ${namespace}/${pod}`;
    this.log.push(entry);
    return new ScriptedCommand(async (running) => {
      const exitCode = await script(running);
      this.log.push(`${entry} ended ${exitCode}`);
      return exitCode;
    });
  }
}
