import { expect, test } from 'vitest';
import type { BlockDevice } from '../../../agent/core/block-device.ts';
import type { Connection, ReceivingHandler } from '../../../agent/core/connection.ts';
import { HeaderEncoder } from '../../../agent/mirror/frame-codec.ts';
import { encodeJson } from '../../../agent/mirror/messages.ts';
import { type FrameType, frameTypes, protocolVersion } from '../../../agent/mirror/protocol.ts';
import { type StandbyCopy, StandbySession } from '../../../agent/mirror/standby-session.ts';
import { systemClock } from '../../../common/clock.ts';
import { silentLog } from '../../../common/log.ts';
import { settle } from '../../support/settle.ts';

const size = 8 * 1024 * 1024;
const payloadBytes = 100 * 1024;

/** A device that is done with a write only when it is told. */
class SlowDevice implements Pick<BlockDevice, 'size' | 'blockSize' | 'write'> {
  readonly size = size;
  readonly blockSize = 512;
  readonly held: { readonly data: Uint8Array; readonly done: () => void }[] = [];

  write(_offset: number, data: Uint8Array): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.held.push({ data, done: resolve });
    return promise;
  }
}

/** A session whose connection puts bytes where it wants them, as an adopted socket does. */
async function session(device: SlowDevice): Promise<(type: FrameType, sequence: number, payload: Buffer) => void> {
  let handler: ReceivingHandler | undefined;
  const nothing = () => undefined;
  const connection: Connection = {
    send: nothing,
    flush: nothing,
    queuedBytes: 0,
    pause: nothing,
    resume: nothing,
    destroy: nothing,
    handle: (given) => {
      handler = given as ReceivingHandler;
    },
  };
  const copy: Partial<StandbyCopy> = {
    device: device as Partial<BlockDevice> as BlockDevice,
    admit: async () => ({ protocol: protocolVersion, epoch: 1, blank: true, consistent: false }) as never,
    beginResync: async () => undefined,
  };
  new StandbySession(connection, copy as StandbyCopy, silentLog, systemClock);
  const headers = new HeaderEncoder();
  const send = (type: FrameType, sequence: number, payload: Buffer) => {
    let rest = Buffer.concat([headers.encode(type, 0, payload.length, sequence, 0), payload]);
    while (rest.length > 0) {
      const room = handler?.room() ?? Buffer.alloc(0);
      const part = rest.subarray(0, Math.min(room.length, 64 * 1024));
      room.set(part);
      handler?.filled(part.length);
      rest = rest.subarray(part.length);
    }
  };
  const hello = { protocol: protocolVersion, volume: 'v', epoch: 1, size, blockSize: 512, mirror: 'm', generation: 1 };
  send(frameTypes.hello, 0, encodeJson(hello));
  await settle();
  send(frameTypes.resyncBegin, 0, encodeJson({ baseId: 'b', epoch: 1 }));
  await settle();
  return send;
}

test('what the device has not finished stays as it came, however much follows', async () => {
  const device = new SlowDevice();
  const send = await session(device);
  for (let number = 1; number <= 40; number += 1) send(frameTypes.write, number, Buffer.alloc(payloadBytes, number));
  expect(device.held.length).toBe(40);
  for (const [index, { data, done }] of device.held.entries()) {
    expect(Buffer.compare(data, Buffer.alloc(payloadBytes, index + 1))).toBe(0);
    done();
  }
});

test('memory of what the device has finished is received into again', async () => {
  const device = new SlowDevice();
  const send = await session(device);
  for (let number = 1; number <= 60; number += 1) {
    send(frameTypes.write, number, Buffer.alloc(payloadBytes, number));
    device.held.at(-1)?.done();
    await settle();
  }
  expect(new Set(device.held.map(({ data }) => data.buffer)).size).toBeLessThanOrEqual(2);
});
