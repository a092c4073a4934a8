/** Messages as an NBD client sends them, written apart from the server's codec so that the two check each other. */

export interface RequestFields {
  readonly type: number;
  readonly flags?: number;
  readonly cookie?: bigint;
  readonly offset?: bigint | number;
  readonly length?: number;
  readonly data?: Uint8Array;
}

export function requestMessage(fields: RequestFields): Buffer {
  const header = Buffer.alloc(28);
  header.write('25609513', 0, 'hex');
  header.writeUInt16BE(fields.flags ?? 0, 4);
  header.writeUInt16BE(fields.type, 6);
  header.writeBigUInt64BE(fields.cookie ?? 0n, 8);
  header.writeBigUInt64BE(BigInt(fields.offset ?? 0), 16);
  header.writeUInt32BE(fields.length ?? fields.data?.length ?? 0, 24);
  return Buffer.concat([header, fields.data ?? Buffer.alloc(0)]);
}

export function clientFlags(flags = 3): Buffer {
  return uint32(flags);
}

/** An option; `claimedLength` lies about the length of its data. */
export function optionMessage(option: number, data: Uint8Array = Buffer.alloc(0), claimedLength = data.length): Buffer {
  return Buffer.concat([Buffer.from('IHAVEOPT'), uint32(option), uint32(claimedLength), data]);
}

export function goData(name: string, requests: readonly number[] = []): Buffer {
  return Buffer.concat([lengthAndText(name), uint16(requests.length), ...requests.map(uint16)]);
}

export function metaContextData(name: string, queries: readonly string[]): Buffer {
  return Buffer.concat([lengthAndText(name), uint32(queries.length), ...queries.map(lengthAndText)]);
}

export interface OptionReply {
  readonly option: number;
  readonly type: number;
  readonly data: Buffer;
}

/** Takes the replies to options apart. @throws when the bytes are anything else, or end within one. */
export function parseOptionReplies(bytes: Buffer): OptionReply[] {
  const replies: OptionReply[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (bytes.readBigUInt64BE(at) !== 0x3e889045565a9n) throw new Error(`no option reply at ${at}`);
    const end = at + 20 + bytes.readUInt32BE(at + 16);
    if (end > bytes.length) throw new Error('the last reply is cut off');
    replies.push({
      option: bytes.readUInt32BE(at + 8),
      type: bytes.readUInt32BE(at + 12),
      data: bytes.subarray(at + 20, end),
    });
    at = end;
  }
  return replies;
}

export function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function lengthAndText(text: string): Buffer {
  return Buffer.concat([uint32(Buffer.byteLength(text)), Buffer.from(text)]);
}
