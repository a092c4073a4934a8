import type {
  BlockDevice,
  Completion,
  Extent,
  WriteOptions,
  WriteZeroesOptions,
} from '../../agent/core/block-device.ts';

export type HeldOperation = 'read' | 'write' | 'writeZeroes' | 'trim' | 'flush';

/** An operation that has been called and does not complete by itself. */
export interface Held {
  readonly operation: HeldOperation;
  /** Does it, and completes. */
  complete(): void;
  fail(error: Error): void;
}

/**
 * Passes operations on to a device, or holds those of chosen kinds until a test completes them. It notes every call.
 */
export class HeldDevice implements BlockDevice {
  readonly #below: BlockDevice;
  readonly held: Held[] = [];
  readonly holds = new Set<HeldOperation>();
  /** E.g. "write 0+4096 fua". */
  readonly calls: string[] = [];

  constructor(below: BlockDevice) {
    this.#below = below;
  }

  get size(): number {
    return this.#below.size;
  }

  get blockSize(): number {
    return this.#below.blockSize;
  }

  read(offset: number, target: Uint8Array): Completion {
    this.calls.push(`read ${offset}+${target.length}`);
    return this.#maybeHold('read', () => this.#below.read(offset, target));
  }

  write(offset: number, data: Uint8Array, options?: WriteOptions): Completion {
    this.calls.push(`write ${offset}+${data.length}${options?.fua ? ' fua' : ''}`);
    return this.#maybeHold('write', () => this.#below.write(offset, data, options));
  }

  writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): Completion {
    const keep = options?.keepAllocated ? ' keep' : '';
    this.calls.push(`writeZeroes ${offset}+${length}${options?.fua ? ' fua' : ''}${keep}`);
    return this.#maybeHold('writeZeroes', () => this.#below.writeZeroes(offset, length, options));
  }

  trim(offset: number, length: number): Completion {
    this.calls.push(`trim ${offset}+${length}`);
    return this.#maybeHold('trim', () => this.#below.trim(offset, length));
  }

  flush(): Completion {
    this.calls.push('flush');
    return this.#maybeHold('flush', () => this.#below.flush());
  }

  extents(offset: number, length: number): Extent[] {
    return this.#below.extents(offset, length);
  }

  close(): Promise<void> {
    return this.#below.close();
  }

  completeAll(): void {
    for (const held of this.held.splice(0)) held.complete();
  }

  #maybeHold(operation: HeldOperation, perform: () => Completion): Completion {
    if (!this.holds.has(operation)) return perform();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const complete = () => resolve(perform());
    this.held.push({ operation, complete, fail: reject });
    return promise;
  }
}
