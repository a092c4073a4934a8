import { stdout } from 'node:process';

interface Row {
  what: string;
  result: 'PASS' | 'FAIL' | 'as found';
  found: string;
}

/** What the demo shows: each step with its time as it goes on, and at the end a table and a verdict. */
export class Report {
  readonly #startedMs = performance.now();
  readonly #rows: Row[] = [];
  readonly #interrupted: AbortSignal;

  /** No step begins any more once the signal has aborted. */
  constructor(interrupted: AbortSignal) {
    this.#interrupted = interrupted;
  }

  /** Runs a part of the demo under a title. */
  async step<T>(title: string, work: () => Promise<T>): Promise<T> {
    this.#interrupted.throwIfAborted();
    const begunMs = performance.now();
    stdout.write(`[${since(this.#startedMs).padStart(7)}] ${title}\n`);
    const result = await work();
    this.note(`done in ${since(begunMs)}`);
    return result;
  }

  note(text: string): void {
    for (const line of text.split('\n')) stdout.write(`          ${line}\n`);
  }

  /** Something that must hold, or the demo fails. */
  check(what: string, holds: boolean, found: string): void {
    this.#add({ what, result: holds ? 'PASS' : 'FAIL', found });
  }

  /** Something that is shown as it was found, and that the verdict does not depend on. */
  observe(what: string, found: string): void {
    this.#add({ what, result: 'as found', found });
  }

  #add(row: Row): void {
    this.#rows.push(row);
    this.note(`${row.result}: ${row.what}: ${row.found}`);
  }

  /** Prints the table and the verdict. Returns whether the demo passed: it got to its end, and every check held. */
  finish(failure?: string): boolean {
    const width = Math.max(...this.#rows.map(({ what }) => what.length), 4);
    stdout.write(`\n${'What'.padEnd(width)}  Result    Found\n`);
    for (const { what, result, found } of this.#rows) {
      stdout.write(`${what.padEnd(width)}  ${result.padEnd(8)}  ${found}\n`);
    }
    if (failure !== undefined) stdout.write(`\nThe demo did not get to its end: ${failure}\n`);
    const passed = failure === undefined && this.#rows.every(({ result }) => result !== 'FAIL');
    stdout.write(`\n${passed ? 'PASS' : 'FAIL'} after ${since(this.#startedMs)}\n`);
    return passed;
  }
}

function since(startMs: number): string {
  return `${((performance.now() - startMs) / 1000).toFixed(1)} s`;
}
