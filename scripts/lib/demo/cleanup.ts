import { errorMessage } from '../../../common/errors.ts';

/** What has to be undone, last first, whatever happened in between. */
export class Cleanup {
  readonly #actions: { what: string; undo: () => unknown }[] = [];

  add(what: string, undo: () => unknown): void {
    this.#actions.push({ what, undo });
  }

  /** Undoes everything. What fails is said, and does not keep the rest from being undone. */
  async run(): Promise<boolean> {
    let complete = true;
    for (let action = this.#actions.pop(); action; action = this.#actions.pop()) {
      try {
        await action.undo();
      } catch (error) {
        complete = false;
        console.error(`cleanup: ${action.what}: ${errorMessage(error)}`);
      }
    }
    return complete;
  }
}

/** Aborts when the user or the system asks the demo to end, so that it ends in an orderly way. */
export function interruption(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => controller.abort(new Error(`interrupted by ${signal}`)));
  }
  return controller.signal;
}
