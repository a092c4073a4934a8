import type { BlockDevice, Completion } from '../core/block-device.ts';

/** An operation that changes a device, as a value. */
export type Operation =
  | {
      readonly kind: 'write';
      readonly offset: number;
      readonly length: number;
      readonly data: Uint8Array;
      readonly fua: boolean;
    }
  | {
      readonly kind: 'zero' | 'trim';
      readonly offset: number;
      readonly length: number;
      readonly keepAllocated: boolean;
      readonly fua: boolean;
    };

export function applyTo(device: BlockDevice, operation: Operation): Completion {
  const { offset, length } = operation;
  switch (operation.kind) {
    case 'write':
      return device.write(offset, operation.data, operation.fua ? { fua: true } : undefined);
    case 'zero':
      return device.writeZeroes(offset, length, operation);
    case 'trim':
      return device.trim(offset, length);
  }
}
