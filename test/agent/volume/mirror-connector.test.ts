import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Connection } from '../../../agent/core/connection.ts';
import type { LinkTls } from '../../../agent/volume/engine-calls.ts';
import { adoptMirror, connectMirror } from '../../../agent/volume/mirror-connector.ts';
import { MirrorListener } from '../../../agent/volume/mirror-listener.ts';
import { goAhead } from '../../../agent/volume/mirror-preamble.ts';
import { UnderstudyError } from '../../../common/errors.ts';
import { silentLog } from '../../../common/log.ts';
import type { PeerRole } from '../../../common/peer-identity.ts';
import { TestAuthority } from '../../support/certificates.ts';

let authority: TestAuthority;
let listener: MirrorListener;
let adopted: Promise<Connection>[] = [];

beforeAll(async () => {
  authority = await TestAuthority.create();
});
afterAll(() => authority.remove());
afterEach(async () => {
  for (const connection of await Promise.allSettled(adopted)) {
    if (connection.status === 'fulfilled') connection.value.destroy();
  }
  adopted = [];
  await listener.close();
});

async function tlsOf(role: PeerRole, name: string): Promise<LinkTls> {
  return { ca: authority.ca, ...(await authority.issue({ role, name })) };
}

/** A listener as an agent has it, whose volumes are all called "v". */
async function listen(security: LinkTls | undefined, peers?: readonly string[]): Promise<string> {
  listener = await MirrorListener.listen(
    '127.0.0.1:0',
    async (volume, descriptor) => {
      if (volume !== 'v') throw new UnderstudyError('NotFound', `no volume ${volume} on this node`);
      const adopting = adoptMirror(descriptor, goAhead, security, peers);
      adopting.catch(() => undefined);
      adopted.push(adopting);
    },
    silentLog,
  );
  return `127.0.0.1:${listener.port}`;
}

/** Sends a text each way and answers with what arrived. */
async function exchange(client: Connection): Promise<string[]> {
  const server = await adopted[0];
  if (!server) throw new Error('nothing was adopted');
  const texts = [client, server].map(
    (end) =>
      new Promise<string>((resolve) => {
        let text = '';
        end.handle({
          received: (bytes) => {
            text += Buffer.from(bytes).toString();
            if (text.endsWith('.')) resolve(text);
          },
          drained: () => undefined,
          closed: () => resolve(`${text} (closed)`),
        });
      }),
  );
  client.send(Buffer.from('from the '), Buffer.from('primary.'));
  server.send(Buffer.from('from the standby.'));
  return Promise.all(texts);
}

describe.each(['in clear text', 'with TLS'])('a connection %s', (how) => {
  test('is handed from the listener to whoever adopts it, and carries data both ways', async () => {
    const secure = how === 'with TLS';
    const address = await listen(secure ? await tlsOf('node', 'node-b') : undefined);
    const client = await connectMirror(address, 'v', secure ? await tlsOf('node', 'node-a') : undefined);
    expect(await exchange(client)).toEqual(['from the standby.', 'from the primary.']);
    client.destroy();
  });

  test('delivers everything in order, and nothing while it is paused', async () => {
    const secure = how === 'with TLS';
    const address = await listen(secure ? await tlsOf('node', 'node-b') : undefined);
    const client = await connectMirror(address, 'v', secure ? await tlsOf('node', 'node-a') : undefined);
    const server = await adopted[0];
    const words = new Uint32Array(1024 * 1024).map((_, index) => index);
    const sent = Buffer.from(words.buffer);
    const received: Buffer[] = [];
    let paused = false;
    const { promise: done, resolve, reject } = Promise.withResolvers<void>();
    server?.handle({
      received(bytes) {
        if (paused) reject(new Error('delivered while paused'));
        received.push(Buffer.from(bytes));
        if (received.reduce((sum, { length }) => sum + length, 0) === sent.length) return resolve();
        paused = true;
        server.pause();
        setImmediate(() => {
          paused = false;
          server.resume();
        });
      },
      drained: () => undefined,
      closed: () => reject(new Error('closed')),
    });
    for (let at = 0; at < sent.length; at += 4096) client.send(sent.subarray(at, at + 4096));
    await done;
    expect(Buffer.concat(received).equals(sent)).toBe(true);
    // A record of TLS holds 16 KiB: more than one comes at a time.
    expect(received.length).toBeLessThan(sent.length / 16384);
    client.destroy();
  });

  test('for a volume that is not there is refused with the reason', async () => {
    const secure = how === 'with TLS';
    const address = await listen(secure ? await tlsOf('node', 'node-b') : undefined);
    await expect(connectMirror(address, 'w', secure ? await tlsOf('node', 'node-a') : undefined)).rejects.toThrow(
      'no volume w on this node',
    );
  });
});

test('the nodes that have copies of the volume are its peers', async () => {
  const peers = ['node-a', 'node-b'];
  const address = await listen(await tlsOf('node', 'node-b'), peers);
  const client = await connectMirror(address, 'v', await tlsOf('node', 'node-a'), peers);
  expect(await exchange(client)).toEqual(['from the standby.', 'from the primary.']);
  client.destroy();
});

describe('who may not be the peer of a link', () => {
  test('the operator, as primary', async () => {
    const address = await listen(await tlsOf('node', 'node-b'));
    const client = await connectMirror(address, 'v', await tlsOf('operator', 'operator'));
    await expect(adopted[0]).rejects.toThrow(/must be a node.*operator/);
    client.destroy();
  });

  test('the operator, as standby', async () => {
    const address = await listen(await tlsOf('operator', 'operator'));
    await expect(connectMirror(address, 'v', await tlsOf('node', 'node-a'))).rejects.toThrow(
      /must be a node.*operator/,
    );
  });

  test('a node without a copy of the volume, as primary', async () => {
    const address = await listen(await tlsOf('node', 'node-b'), ['node-a', 'node-b']);
    const client = await connectMirror(address, 'v', await tlsOf('node', 'node-c'));
    await expect(adopted[0]).rejects.toThrow(/must be one of node-a, node-b, .*found node-c/);
    client.destroy();
  });

  test('a node without a copy of the volume, as standby', async () => {
    const address = await listen(await tlsOf('node', 'node-c'), ['node-a', 'node-b']);
    await expect(connectMirror(address, 'v', await tlsOf('node', 'node-a'), ['node-a', 'node-b'])).rejects.toThrow(
      /must be one of node-a, node-b, .*found node-c/,
    );
  });

  test('a node of another authority', async () => {
    const other = await TestAuthority.create();
    const address = await listen(await tlsOf('node', 'node-b'));
    const foreign = { ca: authority.ca, ...(await other.issue({ role: 'node', name: 'node-a' })) };
    const client = await connectMirror(address, 'v', foreign).catch(() => undefined);
    await expect(adopted[0]).rejects.toThrow(/TLS handshake/);
    client?.destroy();
    await other.remove();
  });

  test('somebody without TLS', async () => {
    const address = await listen(await tlsOf('node', 'node-b'));
    const client = await connectMirror(address, 'v', undefined);
    client.send(Buffer.alloc(64, 1));
    await expect(adopted[0]).rejects.toThrow();
    client.destroy();
  });
});
