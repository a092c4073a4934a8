import { connect as connectTls } from 'node:tls';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { ByteChannel } from '../../support/byte-channel.ts';
import { type Certificate, TestAuthority } from '../../support/certificates.ts';
import { MemoryDevice } from '../../support/memory-device.ts';
import { NbdTestClient } from '../../support/nbd-client.ts';
import { clientFlags, optionMessage } from '../../support/nbd-messages.ts';
import { startTestServer, type TestServer } from '../../support/nbd-test-server.ts';
import { waitFor } from '../../support/wait-for.ts';

const size = 16 * 2 ** 20;
const startTls = 5;

let authority: TestAuthority;
let stranger: TestAuthority;
let serverCertificate: Certificate;
let started: TestServer;

beforeAll(async () => {
  authority = await TestAuthority.create();
  stranger = await TestAuthority.create();
  serverCertificate = await authority.issue({ role: 'node', name: 'node-a' });
});

afterAll(async () => {
  await authority.remove();
  await stranger.remove();
});

beforeEach(async () => {
  const tls = () => ({ ca: authority.ca, ...serverCertificate });
  started = await startTestServer({ vol: { device: new MemoryDevice(size) } }, { tls, limits: { handshakeMs: 3_000 } });
});

afterEach(() => started.stop());

/** The greeting, and STARTTLS up to its answer. */
async function askForTls(): Promise<ByteChannel> {
  const plain = await ByteChannel.connect(started.path);
  await plain.receive(18);
  plain.send(clientFlags());
  plain.send(optionMessage(startTls));
  const reply = await plain.receive(20);
  expect(reply.readUInt32BE(12)).toBe(1);
  return plain;
}

interface Offer {
  readonly certificate?: Certificate;
  readonly maxVersion?: 'TLSv1.2' | 'TLSv1.3';
}

async function connectSecurely({ certificate, maxVersion = 'TLSv1.3' }: Offer): Promise<NbdTestClient> {
  const plain = await askForTls();
  const options = { ca: authority.ca, servername: 'localhost', maxVersion, ...certificate };
  const secure = connectTls({ socket: plain.socket, ...options });
  const channel = new ByteChannel(secure);
  return NbdTestClient.over(channel, { exportName: 'vol', greeted: true });
}

describe('with TLS required', () => {
  test('a client with a certificate is served, and the provider is told who it is', async () => {
    const certificate = await authority.issue({ role: 'node', name: 'node-b' });
    const client = await connectSecurely({ certificate });
    expect(started.exports.lastClient).toEqual({ peer: { role: 'node', name: 'node-b' } });
    const data = Buffer.alloc(5 * 2 ** 20, 'understudy');
    await client.write(2 ** 20, data);
    expect((await client.read(2 ** 20, data.length)).equals(data)).toBe(true);
    const many = Array.from({ length: 300 }, (_, index) => client.read(index * 4096, 4096));
    expect(Buffer.concat(await Promise.all(many)).equals(await client.read(0, 300 * 4096))).toBe(true);
    await client.disconnect();
    await waitFor(() => started.server.connections === 0, { timeoutMs: 20_000 });
  });

  test('a client without a certificate, or with one of another authority, is not', async () => {
    const foreign = await stranger.issue({ role: 'node', name: 'node-b' });
    await expect(connectSecurely({})).rejects.toThrow();
    await expect(connectSecurely({ certificate: foreign })).rejects.toThrow();
    expect(started.exports.lastClient).toBeUndefined();
    await waitFor(() => started.server.connections === 0, { timeoutMs: 20_000 });
  });

  test('TLS 1.2 is refused', async () => {
    const certificate = await authority.issue({ role: 'operator', name: 'operator' });
    await expect(connectSecurely({ certificate, maxVersion: 'TLSv1.2' })).rejects.toThrow();
  });

  test('a client that does not use TLS gets no export', async () => {
    await expect(NbdTestClient.connect(started.path, { exportName: 'vol' })).rejects.toMatchObject({
      type: 0x80000005,
    });
  });

  test('garbage, silence and a lost connection instead of TLS do no harm', async () => {
    const garbage = await askForTls();
    garbage.send(Buffer.alloc(1000, 'x'));
    const silent = await askForTls();
    const lost = await askForTls();
    lost.close();
    await waitFor(() => garbage.isClosed && silent.isClosed, { timeoutMs: 20_000 });
    await waitFor(() => started.server.connections === 0, { timeoutMs: 20_000 });
    const certificate = await authority.issue({ role: 'node', name: 'node-b' });
    const client = await connectSecurely({ certificate });
    client.close();
  });
});
