/** One change of a volume, as the model remembers it until it knows whether a crash can undo it. */
export interface ModelOperation {
  done: boolean;
}

interface Version {
  readonly content: Uint8Array;
  readonly operation: ModelOperation;
}

/**
 * The dumb twin of a volume: a byte array, and for each sector of 512 bytes the versions that a crash may leave of it.
 * Changes apply in the order of their calls, whether they have completed or not.
 */
export class VolumeModel {
  bytes: Uint8Array;
  /** Oldest first; the last is what `bytes` has. */
  #versions = new Map<number, Version[]>();

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  write(offset: number, data: Uint8Array): ModelOperation {
    const operation: ModelOperation = { done: false };
    for (let sector = Math.floor(offset / sectorBytes); sector * sectorBytes < offset + data.length; sector += 1) {
      if (!this.#versions.has(sector)) {
        this.#versions.set(sector, [{ content: this.#sector(sector), operation: { done: true } }]);
      }
    }
    this.bytes.set(data, offset);
    for (let sector = Math.floor(offset / sectorBytes); sector * sectorBytes < offset + data.length; sector += 1) {
      this.#versions.get(sector)?.push({ content: this.#sector(sector), operation });
    }
    return operation;
  }

  /**
   * Call when a flush begins; call the result when it has succeeded.
   * @param all everything called so far counts, not only what has completed
   */
  flush(all: boolean): () => void {
    const floors = new Map<number, Version>();
    for (const [sector, versions] of this.#versions) {
      const floor = versions.findLast(({ operation }) => all || operation.done);
      if (floor) floors.set(sector, floor);
    }
    return () => {
      for (const [sector, floor] of floors) {
        const versions = this.#versions.get(sector);
        const index = versions?.indexOf(floor) ?? -1;
        if (versions && index > 0) versions.splice(0, index);
      }
    };
  }

  /**
   * Takes over what is there after a crash. When only the process was killed, a later power cut may still undo it.
   * @returns the first sector that it cannot have left, or undefined
   */
  crashedInto(bytes: Uint8Array, how: 'power' | 'kill'): number | undefined {
    let wrong: number | undefined;
    for (let sector = 0; sector * sectorBytes < bytes.length; sector += 1) {
      const found = bytes.subarray(sector * sectorBytes, (sector + 1) * sectorBytes);
      const possible = this.#versions.get(sector) ?? [{ content: this.#sector(sector), operation: { done: true } }];
      const version = possible.findLast(({ content }) => Buffer.compare(content, found) === 0);
      if (!version) wrong ??= sector;
      else if (how === 'kill') this.#versions.set(sector, [...possible, { ...version, operation: { done: true } }]);
    }
    this.bytes = Uint8Array.from(bytes);
    if (how === 'power') this.#versions = new Map();
    return wrong;
  }

  #sector(sector: number): Uint8Array {
    return this.bytes.slice(sector * sectorBytes, (sector + 1) * sectorBytes);
  }
}

const sectorBytes = 512;
