/**
 * What the clients write: every sector of 512 bytes says which operation wrote it (its stamp) and where it belongs, in
 * such a way that every byte of the sector depends on both. 0 is the stamp of zeroes.
 */
export const sectorBytes = 512;
const words = sectorBytes / 4;

/** Nothing that any client ever wrote to this sector. */
export const garbage = -1;

export function writeStamps(stamp: number, offset: number, length: number): Buffer {
  const content = Buffer.alloc(length);
  for (let at = 0; at < length; at += sectorBytes) {
    const sector = (offset + at) / sectorBytes;
    for (let word = 0; word < words; word += 1) content.writeUInt32LE(wordOf(stamp, sector, word), at + word * 4);
  }
  return content;
}

/** The stamp of a sector's content, or `garbage`. */
export function readStamp(content: Uint8Array, sector: number): number {
  const view = new DataView(content.buffer, content.byteOffset, sectorBytes);
  const first = view.getUint32(0, true);
  const stamp = (first ^ mixed(sector)) >>> 0;
  if (first !== 0 && stamp !== 0) {
    for (let word = 1; word < words; word += 1) {
      if (view.getUint32(word * 4, true) !== wordOf(stamp, sector, word)) return garbage;
    }
    return stamp;
  }
  for (let word = 0; word < words; word += 1) if (view.getUint32(word * 4, true) !== 0) return garbage;
  return 0;
}

/** The stamps of all sectors of a stretch that begins at `offset`. */
export function readStamps(content: Uint8Array, offset: number): Int32Array {
  const stamps = new Int32Array(content.length / sectorBytes);
  for (let index = 0; index < stamps.length; index += 1) {
    const at = index * sectorBytes;
    stamps[index] = readStamp(content.subarray(at, at + sectorBytes), offset / sectorBytes + index);
  }
  return stamps;
}

function wordOf(stamp: number, sector: number, word: number): number {
  return (stamp ^ mixed(sector + word * 65_536)) >>> 0;
}

/** Never 0 for a first word, so that a stamped sector cannot look blank. */
function mixed(value: number): number {
  return (Math.imul(value + 1, 0x9e37_79b1) | 0x8000_0000) >>> 0;
}
