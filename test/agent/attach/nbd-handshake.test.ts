import { closeSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { connectToExport } from '../../../agent/attach/export-connection.ts';
import { NbdClientHandshake } from '../../../agent/attach/nbd-handshake.ts';
import {
  encodeGreeting,
  encodeInfoBlockSize,
  encodeInfoExport,
  encodeOptionError,
  encodeOptionReply,
} from '../../../agent/nbd/codec.ts';
import { NbdServer } from '../../../agent/nbd/server.ts';
import { systemClock } from '../../../common/clock.ts';
import { UnderstudyError } from '../../../common/errors.ts';
import { silentLog } from '../../../common/log.ts';
import { MemoryDevice } from '../../support/memory-device.ts';
import { waitFor } from '../../support/wait-for.ts';

const go = 7;
const answers = Buffer.concat([
  encodeGreeting(),
  encodeInfoExport(go, 8192, 0b101),
  encodeInfoBlockSize(go, { minimum: 512, preferred: 4096, maximum: 65536 }),
  encodeOptionReply(go, 1),
]);
const served = { sizeBytes: 8192, flags: 0b101, minimumBlockBytes: 512 };

describe('the handshake', () => {
  test('asks for the export once, however the answers are cut', () => {
    for (let cut = 1; cut < answers.length; cut += 1) {
      const handshake = new NbdClientHandshake('volume');
      const sent = Buffer.concat([
        ...handshake.received(answers.subarray(0, cut)),
        ...handshake.received(answers.subarray(cut)),
      ]);
      expect(handshake.served, `cut at ${cut}`).toEqual(served);
      expect(sent.toString('latin1')).toBe('\0\0\0\x03IHAVEOPT\0\0\0\x07\0\0\0\x0e\0\0\0\x06volume\0\x01\0\x03');
    }
  });

  test('says with the words of the server why it is refused', () => {
    const handshake = new NbdClientHandshake('volume');
    handshake.received(encodeGreeting());
    const refusal = encodeOptionError(go, 0x80000006, 'no such volume');
    expect(() => handshake.received(refusal)).toThrow('no such volume');
  });

  test.each([
    ['no greeting of NBD', Buffer.alloc(18, 1)],
    ['bytes behind the end', Buffer.concat([answers, Buffer.from([0])])],
    ['an answer to something else', Buffer.concat([encodeGreeting(), encodeOptionReply(8, 1)])],
    ['an end without the size', Buffer.concat([encodeGreeting(), encodeOptionReply(go, 1)])],
    ['an answer that is too long', Buffer.concat([encodeGreeting(), encodeOptionReply(go, 3, Buffer.alloc(70_000))])],
    ['an unknown type', Buffer.concat([encodeGreeting(), encodeOptionReply(go, 77)])],
  ])('refuses %s', (_, bytes) => {
    expect(() => new NbdClientHandshake('volume').received(bytes)).toThrow(
      expect.objectContaining({ code: 'Protocol' }),
    );
  });
});

describe('a connection to our server', () => {
  let directory: string;
  let server: NbdServer;
  const device = new MemoryDevice(64 * 1024, 4096);

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'understudy-handshake-'));
    const open = async (name: string) => {
      if (name !== 'volume') throw new UnderstudyError('NotFound', `no export "${name}" here`);
      return { device, readOnly: true, multiConn: true, contexts: new Map(), close: async () => {} };
    };
    server = await NbdServer.listen({ path: join(directory, 's'), exports: { list: () => [], open }, log: silentLog });
  });

  afterEach(async () => {
    await server.close();
    await rm(directory, { recursive: true, force: true });
  });

  test('lives as long as its descriptor', async () => {
    const connection = await connectToExport({ socket: join(directory, 's'), exportName: 'volume' }, systemClock);
    expect(connection.served).toMatchObject({ sizeBytes: 64 * 1024, minimumBlockBytes: 4096 });
    expect(connection.served.flags & 0b10).toBe(0b10);
    expect(server.connections).toBe(1);
    closeSync(connection.descriptor);
    await waitFor(() => server.connections === 0, { timeoutMs: 10_000 });
  });

  test('is refused with a reason, and nobody there is said, too', async () => {
    const other = connectToExport({ socket: join(directory, 's'), exportName: 'other' }, systemClock);
    await expect(other).rejects.toMatchObject({ code: 'NotReady', message: expect.stringContaining('no export') });
    const nowhere = connectToExport({ socket: join(directory, 'none'), exportName: 'volume' }, systemClock);
    await expect(nowhere).rejects.toMatchObject({ code: 'Unavailable' });
    await waitFor(() => server.connections === 0, { timeoutMs: 10_000 });
  });
});
