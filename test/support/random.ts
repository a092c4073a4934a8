/**
 * Random numbers from a seed, so that a failing run can be repeated. Algorithm: xoshiro128** by Blackman and Vigna, seeded
 * with splitmix32 (https://prng.di.unimi.it).
 */
export class Random {
  readonly seed: number;
  readonly #state = new Uint32Array(4);

  constructor(seed: number) {
    this.seed = seed;
    let mixed = seed >>> 0;
    for (let index = 0; index < 4; index += 1) {
      mixed = (mixed + 0x9e37_79b9) >>> 0;
      let word = mixed;
      word = Math.imul(word ^ (word >>> 16), 0x21f0_aaad);
      word = Math.imul(word ^ (word >>> 15), 0x735a_2d97);
      this.#state[index] = word ^ (word >>> 15);
    }
  }

  /** 0 to 2^32 - 1. */
  word(): number {
    const state = this.#state;
    const [a, b, c, d] = [state[0] as number, state[1] as number, state[2] as number, state[3] as number];
    const result = Math.imul(rotate(Math.imul(b, 5), 7), 9) >>> 0;
    state[2] = c ^ a;
    state[3] = d ^ b;
    state[1] = b ^ (state[2] as number);
    state[0] = a ^ (state[3] as number);
    state[2] = (state[2] as number) ^ (b << 9);
    state[3] = rotate(state[3] as number, 11);
    return result;
  }

  /** 0 (included) to 1 (excluded). */
  fraction(): number {
    return this.word() / 2 ** 32;
  }

  /** 0 (included) to `limit` (excluded). */
  below(limit: number): number {
    return Math.floor(this.fraction() * limit);
  }

  chance(probability: number): boolean {
    return this.fraction() < probability;
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new RangeError('nothing to pick from');
    return item;
  }

  bytes(length: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(length);
    const view = new DataView(bytes.buffer);
    let index = 0;
    for (; index + 4 <= length; index += 4) view.setUint32(index, this.word());
    for (; index < length; index += 1) bytes[index] = this.word();
    return bytes;
  }

  /** An independent sequence: what is drawn from it does not shift what is drawn from this one. */
  fork(): Random {
    return new Random(this.word());
  }
}

function rotate(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}
