import { readdirSync, readFileSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { BlockDevice, Completion } from '../../agent/core/block-device.ts';
import { checkRange } from '../../agent/core/range.ts';
import type { NbdExport } from '../../agent/nbd/exports.ts';
import { defaultLimits, type NbdLimits } from '../../agent/nbd/limits.ts';
import { NbdSession } from '../../agent/nbd/session.ts';
import { UnderstudyError } from '../../common/errors.ts';
import { type Log, silentLog } from '../../common/log.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { MemoryConnection } from '../support/memory-connection.ts';
import { MemoryDevice } from '../support/memory-device.ts';
import { clientFlags, goData, metaContextData, optionMessage, requestMessage } from '../support/nbd-messages.ts';
import { Random } from '../support/random.ts';

/**
 * Random conversations, valid ones damaged in random places, against a session in memory. NBD_FUZZ_RUNS sets how many
 * (few by default), NBD_FUZZ_SEED the first seed; a run depends on its seed only. The files in nbd-corpus are
 * conversations that once did harm, or that the generator rarely finds: one hexadecimal chunk of the stream a line.
 *
 * What must hold whatever comes in: nothing throws; every request that reaches the device is valid; requests and bytes
 * under way are bounded; and in the end the export is closed, once.
 */
const runs = Number(process.env.NBD_FUZZ_RUNS ?? 60);
const firstSeed = Number(process.env.NBD_FUZZ_SEED ?? 1);

const exportSize = 256 * 1024;
const limits: NbdLimits = {
  ...defaultLimits,
  maxOptions: 50,
  maxOptionBytes: 2048,
  maxHandshakeReplyBytes: 20_000,
  maxPayloadBytes: 64 * 1024,
  maxRequestsInFlight: 8,
  maxBytesInFlight: 128 * 1024,
};

/** A device that checks what it is asked, and answers at once, later, or with a failure. */
class CheckingDevice implements BlockDevice {
  readonly #below = new MemoryDevice(exportSize);
  readonly #random: Random;
  readonly size = exportSize;
  readonly blockSize = 512;
  inFlight = 0;
  mostInFlight = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  read(offset: number, target: Uint8Array): Completion {
    checkRange(this, offset, target.length);
    return this.#sometimeLater(() => this.#below.read(offset, target));
  }

  write(offset: number, data: Uint8Array): Completion {
    checkRange(this, offset, data.length);
    return this.#sometimeLater(() => this.#below.write(offset, data));
  }

  writeZeroes(offset: number, length: number): Completion {
    checkRange(this, offset, length);
    return this.#sometimeLater(() => this.#below.writeZeroes(offset, length));
  }

  trim(offset: number, length: number): Completion {
    return this.writeZeroes(offset, length);
  }

  flush(): Completion {
    return this.#sometimeLater(() => {});
  }

  extents(offset: number, length: number) {
    return this.#below.extents(offset, length);
  }

  async close(): Promise<void> {}

  #sometimeLater(perform: () => void): Completion {
    const failure = this.#random.chance(0.05) ? new UnderstudyError('Io', 'the disk failed') : undefined;
    const act = () => {
      if (failure) throw failure;
      perform();
    };
    if (this.#random.chance(0.5)) {
      act();
      return undefined;
    }
    this.inFlight += 1;
    this.mostInFlight = Math.max(this.mostInFlight, this.inFlight);
    return nextTurn().then(() => {
      this.inFlight -= 1;
      act();
    });
  }
}

function randomOption(random: Random): Buffer {
  const name = random.pick(['vol', 'vol', 'vol', 'missing', '', '\0', 'x'.repeat(3000)]);
  switch (random.below(9)) {
    case 0:
      return optionMessage(8);
    case 1:
      return optionMessage(3);
    case 2:
      return optionMessage(random.pick([6, 7]), goData(name, [random.below(5), random.below(5)]));
    case 3:
      return optionMessage(10, metaContextData(name, ['base:allocation', random.pick(['qemu:x', 'bad', ''])]));
    case 4:
      return optionMessage(9, metaContextData(name, random.chance(0.5) ? [] : ['qemu:']));
    case 5:
      return optionMessage(random.below(20), random.bytes(random.below(40)));
    case 6:
      return optionMessage(random.pick([1, 2, 5]), Buffer.from(name));
    case 7:
      return optionMessage(random.below(12), random.bytes(20), random.below(5000));
    default:
      return optionMessage(8);
  }
}

function randomRequest(random: Random): Buffer {
  const type = random.chance(0.95) ? random.pick([0, 0, 1, 1, 3, 4, 5, 6, 7]) : random.below(70_000) & 0xffff;
  const blocks = random.pick([1, 1, 2, 8, 64, 200]);
  const length = random.chance(0.9) ? blocks * 512 : random.below(0x1_0000_0000);
  const offset = random.chance(0.9) ? random.below(exportSize / 512) * 512 : random.below(2 ** 40);
  const flags = random.chance(0.8) ? 0 : random.below(64);
  const cookie = BigInt(random.below(2 ** 32));
  if (type !== 1) return requestMessage({ type, flags, cookie, offset, length: type === 3 ? 0 : length });
  return requestMessage({ type, flags, cookie, offset, length, data: Buffer.alloc(Math.min(length, 200_000), 1) });
}

/** A conversation that is mostly sensible, then damaged, then cut into chunks. */
function randomConversation(random: Random): Buffer[] {
  const messages = [clientFlags(random.chance(0.95) ? 3 : random.below(8))];
  for (let count = random.below(6); count > 0; count -= 1) messages.push(randomOption(random));
  messages.push(optionMessage(8), optionMessage(10, metaContextData('vol', ['base:allocation'])));
  messages.push(optionMessage(7, goData('vol')));
  for (let count = random.below(60); count > 0; count -= 1) messages.push(randomRequest(random));
  if (random.chance(0.3)) messages.push(requestMessage({ type: 2 }));
  const stream = Buffer.concat(messages);
  if (random.chance(0.5)) {
    for (let count = 1 + random.below(4); count > 0; count -= 1) {
      stream.writeUInt8(random.below(256), random.below(Math.min(stream.length, random.pick([200, stream.length]))));
    }
  }
  const end = random.chance(0.2) ? random.below(stream.length) : stream.length;
  return cut(random, stream.subarray(0, end));
}

function cut(random: Random, stream: Buffer): Buffer[] {
  const chunks: Buffer[] = [];
  const usual = random.pick([1, 50, 5000, 65_536]);
  for (let at = 0; at < stream.length; ) {
    const length = stream.length > 20_000 && usual < 50 ? 1 + random.below(3000) : 1 + random.below(usual);
    chunks.push(stream.subarray(at, at + length));
    at += length;
  }
  return chunks;
}

async function converse(chunks: readonly Buffer[], random: Random): Promise<void> {
  const device = new CheckingDevice(random);
  const connection = new MemoryConnection();
  const clock = new ManualClock();
  const defects: unknown[] = [];
  let opened = 0;
  let ended = 0;
  const log: Log = { ...silentLog, error: (labels) => defects.push(labels), child: () => log };
  new NbdSession(connection, {
    exports: {
      list: () => ['vol', 'x'.repeat(200)],
      async open(name): Promise<NbdExport> {
        if (name === 'missing') throw new UnderstudyError('NotFound', 'missing');
        opened += 1;
        const close = async () => {
          opened -= 1;
        };
        return { device, readOnly: false, multiConn: true, contexts: new Map(), close };
      },
    },
    limits,
    clock,
    log,
    client: {},
    defer: (callback) => process.nextTick(callback),
    ended: () => {
      ended += 1;
    },
  });
  const sent: Buffer[] = [];
  for (const chunk of chunks) {
    for (let turn = 0; connection.isPaused && turn < 1000; turn += 1) await nextTurn();
    if (connection.isPaused || connection.isClosed) break;
    connection.deliver(chunk);
    expect(connection.queuedBytes).toBeLessThanOrEqual(limits.maxBytesInFlight + 2 * limits.maxPayloadBytes);
    if (random.chance(0.2)) await nextTurn();
    sent.push(connection.takeSent());
    if (random.chance(0.05)) {
      connection.stuck = true;
    } else if (connection.stuck) connection.drain();
  }
  if (!connection.isClosed) connection.destroy();
  for (let turn = 0; ended === 0 && turn < 1000; turn += 1) await nextTurn();
  clock.advance(1_000_000);
  expect({ defects, opened, ended, inFlight: device.inFlight }).toEqual({
    defects: [],
    opened: 0,
    ended: 1,
    inFlight: 0,
  });
  expect(device.mostInFlight).toBeLessThanOrEqual(limits.maxRequestsInFlight);
  expect(Buffer.concat(sent).subarray(0, 16).toString()).toBe('NBDMAGICIHAVEOPT');
}

test(`${runs} random conversations from seed ${firstSeed} on`, async () => {
  for (let seed = firstSeed; seed < firstSeed + runs; seed += 1) {
    const random = new Random(seed);
    try {
      await converse(randomConversation(random), random);
    } catch (cause) {
      throw new Error(`seed ${seed} fails: run again with NBD_FUZZ_SEED=${seed} NBD_FUZZ_RUNS=1`, { cause });
    }
  }
}, 3_600_000);

const corpus = new URL('./nbd-corpus/', import.meta.url);

test.each(readdirSync(corpus))('corpus: %s', async (file) => {
  const lines = readFileSync(new URL(file, corpus), 'utf8').split('\n');
  const chunks = lines.filter((line) => line !== '' && !line.startsWith('#')).map((line) => Buffer.from(line, 'hex'));
  await converse(chunks, new Random(1));
});
