import type { BlockDevice } from '../core/block-device.ts';

const pieceBytes = 1024 * 1024;

/** True if every byte of the device certainly reads as zero: holes by what the file system says, all else by reading. */
export async function isBlank(device: BlockDevice): Promise<boolean> {
  let offset = 0;
  for (const extent of device.extents(0, device.size)) {
    const end = offset + extent.length;
    if (!extent.zero && !(await readsAsZero(device, offset, end))) return false;
    offset = end;
  }
  return true;
}

async function readsAsZero(device: BlockDevice, start: number, end: number): Promise<boolean> {
  for (let offset = start; offset < end; offset += pieceBytes) {
    const content = Buffer.alloc(Math.min(pieceBytes, end - offset), 0xff);
    await device.read(offset, content);
    if (content.some((byte) => byte !== 0)) return false;
  }
  return true;
}
