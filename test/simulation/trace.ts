import { createHash } from 'node:crypto';

/** The course of a run: a digest of every event that was noted, and the events themselves if they are to be shown. */
export class Trace {
  readonly #hash = createHash('sha256');
  readonly #now: () => number;
  readonly #show: ((line: string) => void) | undefined;
  readonly #last: string[] = [];
  events = 0;

  constructor(now: () => number, show: ((line: string) => void) | undefined) {
    this.#now = now;
    this.#show = show;
  }

  note(who: string, what: string): void {
    const line = `${this.#now().toFixed(3).padStart(12)} ${who.padEnd(10)} ${what}`;
    this.events += 1;
    this.#hash.update(line);
    this.#last.push(line);
    if (this.#last.length > keptLines) this.#last.shift();
    this.#show?.(line);
  }

  get last(): readonly string[] {
    return this.#last;
  }

  digest(): string {
    return this.#hash.copy().digest('hex').slice(0, 16);
  }
}

const keptLines = 40;
