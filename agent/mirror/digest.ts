import { hash } from 'node:crypto';
import { digestBytes, digestChunkBytes } from './protocol.ts';

/** The digests of consecutive chunks (SHA-256, cut to 16 bytes each); the last chunk may be shorter. */
export function digestsOf(content: Buffer): Buffer {
  const chunks = Math.ceil(content.length / digestChunkBytes);
  const digests = Buffer.alloc(chunks * digestBytes);
  for (let chunk = 0; chunk < chunks; chunk += 1) {
    const start = chunk * digestChunkBytes;
    const digest = hash('sha256', content.subarray(start, start + digestChunkBytes), 'buffer');
    digest.copy(digests, chunk * digestBytes, 0, digestBytes);
  }
  return digests;
}

/** The numbers of the chunks whose digests differ. */
export function differingChunks(ours: Buffer, theirs: Buffer): number[] {
  const differing: number[] = [];
  for (let at = 0; at < ours.length; at += digestBytes) {
    if (ours.compare(theirs, at, at + digestBytes, at, at + digestBytes) !== 0) differing.push(at / digestBytes);
  }
  return differing;
}
