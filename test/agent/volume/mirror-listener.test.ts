import { once } from 'node:events';
import { closeSync, readSync, writeSync } from 'node:fs';
import net from 'node:net';
import { expect, test } from 'vitest';
import { MirrorListener } from '../../../agent/volume/mirror-listener.ts';
import { encodeRequest, goAhead } from '../../../agent/volume/mirror-preamble.ts';
import { silentLog } from '../../../common/log.ts';

test('what the peer sends after the go-ahead is left to whom the connection was handed', async () => {
  const received = Promise.withResolvers<string>();
  // As a volume's thread does, but slow to read: the listener has every chance to take the bytes away.
  const handOver = async (_volume: string, descriptor: number) => {
    writeSync(descriptor, goAhead);
    await helloSent.promise;
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    received.resolve(readAvailable(descriptor));
    closeSync(descriptor);
  };
  const helloSent = Promise.withResolvers<void>();
  const listener = await MirrorListener.listen('127.0.0.1:0', handOver, silentLog);
  const peer = net.connect(listener.port, '127.0.0.1');
  peer.on('error', () => undefined);
  try {
    peer.write(encodeRequest('volume'));
    await once(peer, 'data');
    peer.write('hello', () => helloSent.resolve());
    expect(await received.promise).toBe('hello');
  } finally {
    peer.destroy();
    await listener.close();
  }
});

function readAvailable(descriptor: number): string {
  const buffer = Buffer.alloc(16);
  try {
    return buffer.toString('utf8', 0, readSync(descriptor, buffer));
  } catch (error) {
    return String(error);
  }
}
