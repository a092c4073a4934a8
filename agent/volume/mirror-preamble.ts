/**
 * What comes first on a connection to an agent's mirror listener, in clear text, so that the connection can be given to
 * the volume's own thread before anything else is read from it:
 *
 *   primary → agent   "UDMIRR01" for a mirror link, "UDREST01" for a restore or "UDFILL01" for a
 *                     volume that is filled from a snapshot, the length of the volume's name (u16,
 *                     big-endian), the name
 *   agent → primary   one byte, 1 = go on: TLS or the mirror protocol follows; or
 *                     one byte, 0 = refused, the length of a message (u16), the message; then the connection ends
 *
 * The primary sends nothing more until it has the answer.
 */
import { UnderstudyError } from '../../common/errors.ts';

/** What a connection is for. */
export type LinkPurpose = 'mirror' | 'restore' | 'fill';

const magics: Readonly<Record<LinkPurpose, Buffer>> = {
  mirror: Buffer.from('UDMIRR01'),
  restore: Buffer.from('UDREST01'),
  fill: Buffer.from('UDFILL01'),
};
const magicBytes = magics.mirror.length;
const maxNameBytes = 128;
const maxMessageBytes = 1024;

export function encodeRequest(volume: string, purpose: LinkPurpose = 'mirror'): Buffer {
  const name = Buffer.from(volume);
  const request = Buffer.alloc(magicBytes + 2 + name.length);
  magics[purpose].copy(request);
  request.writeUInt16BE(name.length, magicBytes);
  name.copy(request, magicBytes + 2);
  return request;
}

/** The volume's name and the purpose, or undefined while more bytes are needed. @throws UnderstudyError Protocol */
export function decodeRequest(bytes: Buffer): { readonly volume: string; readonly purpose: LinkPurpose } | undefined {
  const start = bytes.subarray(0, magicBytes);
  const purpose = (['mirror', 'restore', 'fill'] as const).find((known) =>
    magics[known].subarray(0, start.length).equals(start),
  );
  if (purpose === undefined) throw new UnderstudyError('Protocol', 'not a mirror connection');
  if (bytes.length < magicBytes + 2) return undefined;
  const length = bytes.readUInt16BE(magicBytes);
  if (length === 0 || length > maxNameBytes) throw new UnderstudyError('Protocol', `a volume name of ${length} bytes`);
  const end = magicBytes + 2 + length;
  if (bytes.length > end) throw new UnderstudyError('Protocol', 'data before the answer to the preamble');
  if (bytes.length < end) return undefined;
  return { volume: bytes.toString('utf8', magicBytes + 2, end), purpose };
}

export const goAhead = Buffer.from([1]);

export function encodeRefusal(message: string): Buffer {
  const text = Buffer.from(message).subarray(0, maxMessageBytes);
  const refusal = Buffer.alloc(3 + text.length);
  refusal.writeUInt16BE(text.length, 1);
  text.copy(refusal, 3);
  return refusal;
}

/** 'go', or why not; undefined while more bytes are needed. @throws UnderstudyError Protocol */
export function decodeAnswer(bytes: Buffer): 'go' | { readonly refused: string } | undefined {
  const first = bytes[0];
  if (first === undefined) return undefined;
  if (first === goAhead[0]) {
    if (bytes.length > 1) throw new UnderstudyError('Protocol', 'data behind the answer to the preamble');
    return 'go';
  }
  if (first !== 0) throw new UnderstudyError('Protocol', 'not an agent that listens for mirrors');
  if (bytes.length < 3) return undefined;
  const end = 3 + Math.min(bytes.readUInt16BE(1), maxMessageBytes);
  return bytes.length < end ? undefined : { refused: bytes.toString('utf8', 3, end) };
}
