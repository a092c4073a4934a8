import { isDeepStrictEqual } from 'node:util';
import { parseQuantity } from '../../common/quantity.ts';
import { describeValue } from '../../common/validation.ts';
import type { SpecRule } from './resource.ts';

/** The field must stay what it was when the object was accepted. */
export function immutableRule<Spec>(field: keyof Spec & string, optional: boolean): SpecRule<Spec> {
  const unchanged = `self.${field} == oldSelf.${field}`;
  return {
    field,
    expected: 'the value it was created with: it cannot change',
    cel: optional ? `has(self.${field}) == has(oldSelf.${field}) && (!has(self.${field}) || ${unchanged})` : unchanged,
    got: (spec, old) => {
      if (old === undefined || isDeepStrictEqual(spec[field], old[field])) return undefined;
      return `${describe(spec[field])} instead of ${describe(old[field])}`;
    },
  };
}

/** Exactly one of two optional fields must be there; `path` is where they are within the spec, "" for its top. */
export function exactlyOneRule<Spec>(
  path: string,
  parentOf: (spec: Spec) => object | undefined,
  first: string,
  second: string,
): SpecRule<Spec> {
  const self = path === '' ? 'self' : `self.${path}`;
  return {
    field: path === '' ? first : path,
    expected: `exactly one of ${first} and ${second}`,
    cel: `has(${self}.${first}) != has(${self}.${second})`,
    got: (spec) => {
      const parent = new Map(Object.entries(parentOf(spec) ?? {}));
      const there = [first, second].filter((field) => parent.get(field) !== undefined);
      if (there.length === 1) return undefined;
      return there.length === 0 ? 'neither' : 'both';
    },
  };
}

interface Buffered {
  readonly buffer?: { readonly pool: string } | undefined;
}

/** A buffer can be added and resized, but moving or removing it would lose the snapshots in it. */
export function bufferStaysRule<Spec extends Buffered>(): SpecRule<Spec> {
  return {
    field: 'buffer.pool',
    expected: 'the pool that the buffer was created in: moving or removing a buffer would lose its snapshots',
    cel: '!has(oldSelf.buffer) || (has(self.buffer) && self.buffer.pool == oldSelf.buffer.pool)',
    got: (spec, old) => {
      const before = old?.buffer?.pool;
      if (before === undefined || spec.buffer?.pool === before) return undefined;
      return `${describe(spec.buffer?.pool)} instead of ${describe(before)}`;
    },
  };
}

interface BufferSized {
  readonly buffer?: { readonly capacity: string | number } | undefined;
}

export function bufferNeverShrinksRule<Spec extends BufferSized>(): SpecRule<Spec> {
  return {
    field: 'buffer.capacity',
    expected: 'at least the capacity that it has: a buffer cannot shrink',
    cel: '!has(oldSelf.buffer) || !has(self.buffer) || quantity(string(self.buffer.capacity)).compareTo(quantity(string(oldSelf.buffer.capacity))) >= 0',
    got: ({ buffer }, old) => {
      if (buffer === undefined || old?.buffer === undefined) return undefined;
      if (parseQuantity(buffer.capacity) >= parseQuantity(old.buffer.capacity)) return undefined;
      return `${describe(buffer.capacity)}, smaller than ${describe(old.buffer.capacity)}`;
    },
  };
}

interface Sized {
  readonly size: string | number;
}

export function sizeNeverShrinksRule<Spec extends Sized>(): SpecRule<Spec> {
  return {
    field: 'size',
    expected: 'at least the size that it has: a volume cannot shrink',
    cel: 'quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0',
    got: (spec, old) => {
      if (old?.size === undefined || parseQuantity(spec.size) >= parseQuantity(old.size)) return undefined;
      return `${describe(spec.size)}, smaller than ${describe(old.size)}`;
    },
  };
}

function describe(value: unknown): string {
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : describeValue(value);
}
