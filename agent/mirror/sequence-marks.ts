/** Which position of the stream had been reached at which sequence of a link; both only grow. */
export class SequenceMarks {
  #marks: { sequence: number; position: number }[] = [];

  add(sequence: number, position: number): void {
    this.#marks.push({ sequence, position });
  }

  /** The highest position noted at or below the sequence, once; undefined if there is none. */
  reached(sequence: number): number | undefined {
    let count = 0;
    let position: number | undefined;
    for (const mark of this.#marks) {
      if (mark.sequence > sequence) break;
      position = mark.position;
      count += 1;
    }
    if (count > 0) this.#marks.splice(0, count);
    return position;
  }

  get size(): number {
    return this.#marks.length;
  }

  clear(): void {
    this.#marks = [];
  }
}
