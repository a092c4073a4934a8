import { describe, expect, test } from 'vitest';
import { option, optionReply } from '../../../agent/nbd/constants.ts';
import {
  type ExportFacts,
  Handshake,
  type HandshakeEffect,
  type HandshakeOptions,
} from '../../../agent/nbd/handshake.ts';
import { UnderstudyError } from '../../../common/errors.ts';
import {
  clientFlags,
  goData,
  metaContextData,
  type OptionReply,
  optionMessage,
  parseOptionReplies,
  uint32,
} from '../../support/nbd-messages.ts';

const facts: ExportFacts = {
  canonicalName: 'canonical',
  description: 'for people',
  sizeBytes: 5 * 2 ** 40,
  blockSizes: { minimum: 512, preferred: 4096, maximum: 2 ** 25 },
  flags: (structured) => (structured ? 0x81 : 0x01),
  contextNames: ['base:allocation', 'qemu:dirty-bitmap:monday', 'qemu:dirty-bitmap:sunday'],
};

const limits: HandshakeOptions = {
  tls: 'off',
  maxOptions: 20,
  maxOptionBytes: 8192,
  maxContexts: 2,
  maxReplyBytes: 100_000,
  listExports: () => ['one', 'two'],
};

/** A handshake whose `open` is answered at once: "missing" is not found, everything else has the same facts. */
class Conversation {
  readonly handshake: Handshake;
  readonly effects: HandshakeEffect[] = [];
  readonly opened: string[] = [];

  constructor(options: Partial<HandshakeOptions> = {}) {
    this.handshake = new Handshake({ ...limits, ...options });
    this.#perform(this.handshake.start());
  }

  say(...messages: Uint8Array[]): this {
    for (const message of messages) this.#perform(this.handshake.received(message));
    return this;
  }

  #perform(effects: HandshakeEffect[]): void {
    for (const effect of effects) {
      this.effects.push(effect);
      if (effect.do !== 'open') continue;
      this.opened.push(effect.name);
      const missing = effect.name === 'missing';
      const answer = missing
        ? this.handshake.refused(new UnderstudyError('NotFound', 'no such volume'))
        : this.handshake.opened(facts);
      this.#perform(answer);
    }
  }

  get sent(): Buffer {
    return Buffer.concat(this.effects.flatMap((effect) => (effect.do === 'send' ? [effect.bytes] : [])));
  }

  /** Replies behind the greeting. */
  get replies(): OptionReply[] {
    return parseOptionReplies(this.sent.subarray(18));
  }

  get lastReply(): OptionReply | undefined {
    return this.replies.at(-1);
  }

  get closeReason(): string | undefined {
    return this.effects.flatMap((effect) => (effect.do === 'close' ? [effect.reason] : []))[0];
  }

  get transmission() {
    return this.effects.find((effect) => effect.do === 'transmit');
  }
}

const go = (name: string, requests: number[] = []) => optionMessage(option.go, goData(name, requests));
const structured = optionMessage(option.structuredReply);
const setContexts = (name: string, ...queries: string[]) =>
  optionMessage(option.setMetaContext, metaContextData(name, queries));
const listContexts = (name: string, ...queries: string[]) =>
  optionMessage(option.listMetaContext, metaContextData(name, queries));

describe('greeting', () => {
  test('offers fixed newstyle without padding', () => {
    expect(new Conversation().sent.toString('latin1')).toBe('NBDMAGICIHAVEOPT\0\x03');
  });

  test('closes on unknown client flags', () => {
    expect(new Conversation().say(clientFlags(4)).closeReason).toContain('client flags');
  });

  test('without fixed newstyle only EXPORT_NAME is answered', () => {
    expect(new Conversation().say(clientFlags(0), go('a')).closeReason).toContain('without fixed newstyle');
    const old = new Conversation().say(clientFlags(0), optionMessage(option.exportName, Buffer.from('a')));
    expect(old.sent.subarray(18)).toHaveLength(134);
    expect(old.transmission).toBeDefined();
  });
});

describe('GO and INFO', () => {
  test('GO tells what is known of the export and begins transmission', () => {
    const talk = new Conversation().say(clientFlags(), structured, go('vol', [1, 2, 3, 77]));
    const infos = talk.replies.filter(({ type }) => type === optionReply.info).map(({ data }) => data);
    expect(infos.map((data) => data.readUInt16BE(0))).toEqual([0, 3, 1, 2]);
    expect(infos[0]?.readBigUInt64BE(2)).toBe(BigInt(facts.sizeBytes));
    expect(infos[0]?.readUInt16BE(10)).toBe(0x81);
    expect(infos[1]?.subarray(2).toString('hex')).toBe('000002000000100002000000');
    expect(infos[2]?.subarray(2).toString()).toBe('canonical');
    expect(infos[3]?.subarray(2).toString()).toBe('for people');
    expect(talk.lastReply).toMatchObject({ option: option.go, type: optionReply.ack });
    expect(talk.transmission).toMatchObject({ settings: { structuredReplies: true, contexts: [] } });
  });

  test('INFO does not begin transmission, and GO for the same export does not open it again', () => {
    const talk = new Conversation().say(clientFlags(), optionMessage(option.info, goData('vol')));
    expect(talk.transmission).toBeUndefined();
    talk.say(go('vol'));
    expect(talk.transmission).toMatchObject({ settings: { structuredReplies: false } });
    expect(talk.opened).toEqual(['vol']);
  });

  test('a missing export is an error after which the client can go on', () => {
    const talk = new Conversation().say(clientFlags(), go('missing'));
    expect(talk.lastReply).toMatchObject({ type: optionReply.errorUnknown });
    expect(talk.lastReply?.data.toString()).toBe('no such volume');
    talk.say(go('vol'));
    expect(talk.transmission).toBeDefined();
  });

  test.each([
    ['cut off', goData('vol').subarray(0, 5)],
    ['name longer than the option', Buffer.concat([uint32(1000), Buffer.from('vol\0\0')])],
    [
      'more information requests than there are',
      Buffer.concat([goData('vol').subarray(0, 7), Buffer.from([0xff, 0xff])]),
    ],
    ['trailing data', Buffer.concat([goData('vol'), Buffer.from('x')])],
    ['NUL in the name', goData('v\0l')],
    ['a name that is not UTF-8', Buffer.concat([uint32(1), Buffer.from([0xff, 0, 0])])],
    ['a name that is too long', goData('x'.repeat(4097))],
    ['nothing', Buffer.alloc(0)],
  ])('%s: an error, and nothing is opened', (_, data) => {
    const talk = new Conversation().say(clientFlags(), optionMessage(option.go, data));
    expect(talk.replies).toMatchObject([{ option: option.go, type: optionReply.errorInvalid }]);
    expect(talk.opened).toEqual([]);
    expect(talk.say(go('vol')).transmission).toBeDefined();
  });
});

describe('EXPORT_NAME', () => {
  const exportName = (name: string) => optionMessage(option.exportName, Buffer.from(name));

  test('answers without a reply header, without padding if the client wants none', () => {
    const talk = new Conversation().say(clientFlags(3), exportName('vol'));
    expect(talk.sent.subarray(18)).toHaveLength(10);
    expect(talk.sent.subarray(18).readBigUInt64BE(0)).toBe(BigInt(facts.sizeBytes));
    expect(new Conversation().say(clientFlags(1), exportName('vol')).sent).toHaveLength(18 + 134);
  });

  test('closes when it cannot be answered', () => {
    for (const name of ['missing', 'v\0l', 'x'.repeat(5000), 'x'.repeat(9000)]) {
      const talk = new Conversation().say(clientFlags(), exportName(name));
      expect(talk.closeReason).toBeDefined();
      expect(talk.sent).toHaveLength(18);
    }
  });
});

describe('LIST and ABORT', () => {
  test('LIST names every export', () => {
    const talk = new Conversation().say(clientFlags(), optionMessage(option.list));
    expect(talk.replies.map(({ type }) => type)).toEqual([optionReply.server, optionReply.server, optionReply.ack]);
    expect(talk.replies[1]?.data).toEqual(Buffer.concat([uint32(3), Buffer.from('two')]));
  });

  test('LIST with data is refused', () => {
    const talk = new Conversation().say(clientFlags(), optionMessage(option.list, Buffer.from('x')));
    expect(talk.replies).toMatchObject([{ type: optionReply.errorInvalid }]);
  });

  test('ABORT is acknowledged, whatever data it has', () => {
    const talk = new Conversation().say(clientFlags(), optionMessage(option.abort, Buffer.from('x')));
    expect(talk.replies).toMatchObject([{ type: optionReply.ack }]);
    expect(talk.closeReason).toContain('aborted');
    expect(talk.say(go('vol')).transmission).toBeUndefined();
  });
});

describe('metadata contexts', () => {
  const names = (talk: Conversation) =>
    talk.replies.filter(({ type }) => type === optionReply.metaContext).map(({ data }) => data.subarray(4).toString());

  test.each([
    [[], facts.contextNames],
    [['base:'], ['base:allocation']],
    [['qemu:'], ['qemu:dirty-bitmap:monday', 'qemu:dirty-bitmap:sunday']],
    [['qemu:dirty-bitmap:'], ['qemu:dirty-bitmap:monday', 'qemu:dirty-bitmap:sunday']],
    [
      ['qemu:dirty-bitmap:monday', 'base:'],
      ['base:allocation', 'qemu:dirty-bitmap:monday'],
    ],
    [['x-unknown:', 'base:nothing'], []],
  ])('LIST of %j', (queries, expected) => {
    const talk = new Conversation().say(clientFlags(), structured, listContexts('vol', ...queries));
    expect(names(talk)).toEqual(expected);
    expect(talk.lastReply?.type).toBe(optionReply.ack);
  });

  test('SET selects exact names only, each with an id of its own', () => {
    const talk = new Conversation().say(
      clientFlags(),
      structured,
      setContexts('vol', 'base:', 'qemu:dirty-bitmap:sunday', 'base:allocation', 'base:allocation'),
      go('vol'),
    );
    const selected = [
      { id: 1, name: 'base:allocation' },
      { id: 3, name: 'qemu:dirty-bitmap:sunday' },
    ];
    expect(names(talk)).toEqual(selected.map(({ name }) => name));
    expect(talk.transmission).toMatchObject({ settings: { contexts: selected } });
    expect(talk.opened).toEqual(['vol']);
  });

  test('a selection counts for its export only, and only the last one counts', () => {
    const select = [clientFlags(), structured, setContexts('vol', 'base:allocation')];
    const other = new Conversation().say(...select, go('other'));
    expect(other.transmission).toMatchObject({ settings: { contexts: [] } });
    expect(other.opened).toEqual(['vol', 'other']);
    const replaced = new Conversation().say(...select, setContexts('vol'), go('vol'));
    expect(replaced.transmission).toMatchObject({ settings: { contexts: [] } });
    const failed = new Conversation().say(...select, setContexts('missing', 'base:allocation'), go('vol'));
    expect(failed.transmission).toMatchObject({ settings: { contexts: [] } });
  });

  test('are refused without structured replies, without a namespace, and if there are too many', () => {
    const early = new Conversation().say(clientFlags(), setContexts('vol', 'base:allocation'));
    expect(early.lastReply?.type).toBe(optionReply.errorInvalid);
    const nameless = new Conversation().say(clientFlags(), structured, listContexts('vol', 'allocation'));
    expect(nameless.lastReply?.type).toBe(optionReply.errorInvalid);
    const many = new Conversation().say(clientFlags(), structured, setContexts('vol', ...facts.contextNames));
    expect(many.lastReply?.type).toBe(optionReply.errorTooBig);
    const lying = Buffer.concat([uint32(3), Buffer.from('vol'), uint32(0xffff_ffff)]);
    const huge = new Conversation().say(clientFlags(), structured, optionMessage(option.listMetaContext, lying));
    expect(huge.lastReply?.type).toBe(optionReply.errorInvalid);
  });
});

describe('TLS', () => {
  test('off: STARTTLS is refused by policy', () => {
    const talk = new Conversation().say(clientFlags(), optionMessage(option.startTls));
    expect(talk.replies).toMatchObject([{ type: optionReply.errorPolicy }]);
  });

  test('required: everything else has to wait', () => {
    const talk = new Conversation({ tls: 'required' }).say(clientFlags(), go('vol'), optionMessage(99), structured);
    expect(talk.replies.map(({ type }) => type)).toEqual(Array(3).fill(optionReply.errorTlsRequired));
    const named = new Conversation({ tls: 'required' }).say(clientFlags(), optionMessage(option.exportName));
    expect(named.closeReason).toContain('TLS');
  });

  test('required: after STARTTLS nothing of before counts', () => {
    const talk = new Conversation({ tls: 'required' }).say(clientFlags(), optionMessage(option.startTls));
    expect(talk.effects.at(-1)).toEqual({ do: 'startTls' });
    talk.handshake.secured();
    talk.say(optionMessage(option.startTls));
    expect(talk.lastReply?.type).toBe(optionReply.errorInvalid);
    talk.say(go('vol'));
    expect(talk.transmission).toMatchObject({ settings: { structuredReplies: false } });
  });

  test('what was sent in the clear behind STARTTLS is never taken for the client’s words', () => {
    const injected = Buffer.concat([optionMessage(option.startTls), structured]);
    const talk = new Conversation({ tls: 'required' }).say(clientFlags(), injected);
    expect(talk.closeReason).toContain('STARTTLS');
    expect(talk.effects).not.toContainEqual({ do: 'startTls' });
  });
});

describe('limits', () => {
  test('unknown options are refused, and their data is skipped', () => {
    const talk = new Conversation().say(clientFlags(), optionMessage(11, Buffer.alloc(100)), go('vol'));
    expect(talk.replies[0]).toMatchObject({ option: 11, type: optionReply.errorUnsupported });
    expect(talk.transmission).toBeDefined();
  });

  test.each([
    [option.go, optionReply.errorTooBig],
    [999, optionReply.errorUnsupported],
  ])('data that is too long is skipped without being kept (option %i)', (code, type) => {
    const talk = new Conversation().say(clientFlags(), optionMessage(code, Buffer.alloc(10), 50_000_000));
    const chunk = Buffer.alloc(10_000_000);
    for (let sent = 10; sent < 50_000_000; sent += chunk.length) talk.say(chunk.subarray(0, 50_000_000 - sent));
    expect(talk.replies).toMatchObject([{ option: code, type }]);
    expect(talk.say(go('vol')).transmission).toBeDefined();
  });

  test('closes after too many options, and after too much was asked for', () => {
    const options = Array<Buffer>(21).fill(structured);
    expect(new Conversation().say(clientFlags(), ...options).closeReason).toContain('too many options');
    const many = { listExports: () => Array<string>(1000).fill('x'.repeat(50)) };
    const greedy = new Conversation(many).say(clientFlags(), optionMessage(option.list), optionMessage(option.list));
    expect(greedy.closeReason).toContain('too much');
    expect(greedy.sent.length).toBeLessThanOrEqual(100_000);
  });

  test('closes on an option without its magic number', () => {
    expect(new Conversation().say(clientFlags(), Buffer.alloc(16)).closeReason).toContain('magic');
  });
});

test('does not depend on where the stream is split', () => {
  const stream = Buffer.concat([
    clientFlags(),
    structured,
    optionMessage(77, Buffer.from('unknown')),
    optionMessage(option.list),
    setContexts('vol', 'base:allocation'),
    optionMessage(option.info, goData('vol', [1, 3])),
    go('vol', [3]),
    Buffer.from('the first request'),
  ]);
  const plain = (effects: HandshakeEffect[]) =>
    effects.map((effect) => ({
      ...effect,
      ...('bytes' in effect && { bytes: Buffer.from(effect.bytes).toString('hex') }),
      ...('rest' in effect && { rest: '' }),
    }));
  const whole = new Conversation().say(stream);
  expect(whole.transmission).toMatchObject({ rest: Buffer.from('the first request') });
  for (let at = 0; at <= stream.length; at += 1) {
    const split = new Conversation().say(stream.subarray(0, at), stream.subarray(at));
    expect(plain(split.effects)).toEqual(plain(whole.effects));
  }
  const bytewise = new Conversation().say(...[...stream].map((byte) => Uint8Array.of(byte)));
  expect(plain(bytewise.effects)).toEqual(plain(whole.effects));
});
