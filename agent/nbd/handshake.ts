import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import { ByteQueue } from './byte-queue.ts';
import {
  type BlockSizes,
  decodeInfoRequest,
  decodeMetaContextRequest,
  decodeOptionHeader,
  decodeString,
  encodeExportNameReply,
  encodeGreeting,
  encodeInfoBlockSize,
  encodeInfoExport,
  encodeInfoText,
  encodeMetaContext,
  encodeOptionError,
  encodeOptionReply,
  encodeServer,
  type OptionHeader,
  viewOf,
} from './codec.ts';
import { handshakeFlag, info, length, option, optionReply } from './constants.ts';
import { optionErrorOf } from './errno.ts';
import { listContexts, type SelectedContext, selectContexts } from './meta-context.ts';

/**
 * The option haggling of fixed newstyle as a state machine: bytes come in, effects go out, and it does nothing itself.
 *
 * - Effects are carried out in order. After `open` it waits, and takes nothing from its input, until `opened` or
 *   `refused` is called; after `startTls`, `transmit` and `close` it is finished or waits for `secured`.
 * - At most one export is known at a time: that of the last `open`. An option that names the same export again uses it,
 *   so that GO says what INFO said before.
 * - Memory: at most one option's data, limited, besides what the caller pushed in the last call, and limited replies.
 */
export type HandshakeEffect =
  | { readonly do: 'send'; readonly bytes: Uint8Array }
  /** Open this export, after closing one that was opened before. */
  | { readonly do: 'open'; readonly name: string }
  /** Every byte from here on is TLS, both ways. */
  | { readonly do: 'startTls' }
  /** The export that was opened last is served from now on; `rest` has come in already. */
  | { readonly do: 'transmit'; readonly settings: TransmissionSettings; readonly rest: Uint8Array }
  | { readonly do: 'close'; readonly reason: string };

export interface TransmissionSettings {
  readonly structuredReplies: boolean;
  readonly contexts: readonly SelectedContext[];
}

/** What the handshake tells a client of an export. */
export interface ExportFacts {
  readonly canonicalName: string;
  readonly description: string | undefined;
  readonly sizeBytes: number;
  readonly blockSizes: BlockSizes;
  /** Transmission flags, for structured replies or without them. */
  flags(structuredReplies: boolean): number;
  readonly contextNames: readonly string[];
}

export interface HandshakeOptions {
  /** required: nothing but STARTTLS and ABORT is answered before TLS. off: STARTTLS is refused. */
  readonly tls: 'off' | 'required';
  readonly maxOptions: number;
  readonly maxOptionBytes: number;
  readonly maxContexts: number;
  /** Everything that is sent in the handshake; a client that asks for more is hung up on. */
  readonly maxReplyBytes: number;
  listExports(): readonly string[];
}

type Next = 'client-flags' | 'option-header' | 'option-data' | 'opening' | 'securing' | 'finished';

export class Handshake {
  readonly #options: HandshakeOptions;
  readonly #input = new ByteQueue();
  #effects: HandshakeEffect[] = [];
  #next: Next = 'client-flags';
  #clientFlags = 0;
  #header: OptionHeader = { option: 0, dataLength: 0 };
  /** Data of an over-long option still to be dropped. */
  #dropBytes = 0;
  #optionCount = 0;
  #replyBytes = 0;
  #secure = false;
  #structuredReplies = false;
  #contexts: { exportName: string; selected: SelectedContext[] } = { exportName: '', selected: [] };
  #export: { name: string; facts: ExportFacts } | undefined;
  #whenOpened: ((facts: ExportFacts) => void) | undefined;
  #openingName = '';

  constructor(options: HandshakeOptions) {
    this.#options = options;
  }

  /** What the server says first. */
  start(): HandshakeEffect[] {
    this.#send(encodeGreeting());
    return this.#run();
  }

  received(bytes: Uint8Array): HandshakeEffect[] {
    this.#input.push(bytes);
    return this.#run();
  }

  /** The answer to the effect `open`. */
  opened(facts: ExportFacts): HandshakeEffect[] {
    this.#export = { name: this.#openingName, facts };
    this.#next = 'option-header';
    this.#whenOpened?.(facts);
    return this.#run();
  }

  /** The other answer to the effect `open`. */
  refused(error: unknown): HandshakeEffect[] {
    this.#export = undefined;
    this.#next = 'option-header';
    if (this.#header.option === option.exportName) this.#close(`no such export: ${errorMessage(error)}`);
    else this.#fail(optionErrorOf(error), errorMessage(error));
    return this.#run();
  }

  /** The answer to the effect `startTls`. Nothing negotiated before counts any more. */
  secured(): HandshakeEffect[] {
    this.#secure = true;
    this.#structuredReplies = false;
    this.#contexts = { exportName: '', selected: [] };
    this.#next = 'option-header';
    return this.#run();
  }

  #run(): HandshakeEffect[] {
    while (this.#step()) {
      // each step takes one message, or a part of an over-long one
    }
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  /** Takes one piece of the input; false when there is too little of it, or when someone else has to act first. */
  #step(): boolean {
    switch (this.#next) {
      case 'client-flags':
        return this.#stepClientFlags();
      case 'option-header':
        return this.#stepOptionHeader();
      case 'option-data':
        return this.#stepOptionData();
      default:
        return false;
    }
  }

  #stepClientFlags(): boolean {
    const bytes = this.#input.take(length.clientFlags);
    if (!bytes) return false;
    this.#clientFlags = viewOf(bytes).getUint32(0);
    this.#next = 'option-header';
    const unknown = this.#clientFlags & ~(handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes);
    if (unknown !== 0) this.#close(`unknown client flags 0x${this.#clientFlags.toString(16)}`);
    return true;
  }

  #stepOptionHeader(): boolean {
    const bytes = this.#input.take(length.optionHeader);
    if (!bytes) return false;
    try {
      this.#header = decodeOptionHeader(bytes);
    } catch (error) {
      this.#close(errorMessage(error));
      return true;
    }
    this.#optionCount += 1;
    this.#next = 'option-data';
    this.#dropBytes = this.#header.dataLength > this.#options.maxOptionBytes ? this.#header.dataLength : 0;
    if (this.#optionCount > this.#options.maxOptions) this.#close('too many options');
    return true;
  }

  #stepOptionData(): boolean {
    if (this.#dropBytes > 0) {
      this.#dropBytes -= this.#input.drop(this.#dropBytes);
      if (this.#dropBytes > 0) return false;
      this.#next = 'option-header';
      this.#optionTooLong();
      return true;
    }
    const data = this.#input.take(this.#header.dataLength);
    if (!data) return false;
    this.#next = 'option-header';
    this.#handleOption(data);
    return true;
  }

  #optionTooLong(): void {
    const { option: code, dataLength } = this.#header;
    if (code === option.exportName) this.#close(`an export name of ${dataLength} bytes`);
    else if (!Object.values<number>(option).includes(code)) this.#fail(optionReply.errorUnsupported, 'unknown option');
    else this.#fail(optionReply.errorTooBig, `at most ${this.#options.maxOptionBytes} bytes of data are accepted`);
  }

  #handleOption(data: Uint8Array): void {
    const code = this.#header.option;
    const fixed = (this.#clientFlags & handshakeFlag.fixedNewstyle) !== 0;
    if (!fixed && code !== option.exportName) {
      this.#close(`option ${code} from a client without fixed newstyle`);
      return;
    }
    if (this.#options.tls === 'required' && !this.#secure && code !== option.startTls && code !== option.abort) {
      if (code === option.exportName) this.#close('EXPORT_NAME without TLS');
      else this.#fail(optionReply.errorTlsRequired, 'this server requires TLS');
      return;
    }
    try {
      this.#dispatch(code, data);
    } catch (error) {
      if (!(error instanceof UnderstudyError) || error.code !== 'Invalid') throw error;
      if (code === option.exportName) this.#close(error.message);
      else this.#fail(optionReply.errorInvalid, error.message);
    }
  }

  #dispatch(code: number, data: Uint8Array): void {
    switch (code) {
      case option.exportName:
        this.#exportName(decodeString(data));
        break;
      case option.abort:
        this.#acknowledge();
        this.#close('the client aborted the handshake');
        break;
      case option.list:
        this.#list(data);
        break;
      case option.startTls:
        this.#startTls(data);
        break;
      case option.info:
      case option.go:
        this.#infoOrGo(code, data);
        break;
      case option.structuredReply:
        expectNoData(data);
        this.#structuredReplies = true;
        this.#acknowledge();
        break;
      case option.listMetaContext:
        this.#listMetaContext(data);
        break;
      case option.setMetaContext:
        this.#setMetaContext(data);
        break;
      default:
        this.#fail(optionReply.errorUnsupported, 'unknown option');
    }
  }

  #exportName(name: string): void {
    this.#withExport(name, (facts) => {
      const padding = (this.#clientFlags & handshakeFlag.noZeroes) === 0;
      this.#send(encodeExportNameReply(facts.sizeBytes, facts.flags(this.#structuredReplies), padding));
      this.#transmit(name);
    });
  }

  #list(data: Uint8Array): void {
    expectNoData(data);
    for (const name of this.#options.listExports()) this.#send(encodeServer(option.list, name));
    this.#acknowledge();
  }

  #startTls(data: Uint8Array): void {
    expectNoData(data);
    if (this.#options.tls === 'off') {
      this.#fail(optionReply.errorPolicy, 'TLS is not set up on this server');
    } else if (this.#secure) {
      this.#fail(optionReply.errorInvalid, 'TLS is in use already');
    } else if (this.#input.length > 0) {
      // Bytes behind the option came in the clear and must not be taken for the client's words inside TLS.
      this.#close('data between STARTTLS and its answer');
    } else {
      this.#acknowledge();
      this.#next = 'securing';
      this.#effects.push({ do: 'startTls' });
    }
  }

  #infoOrGo(code: number, data: Uint8Array): void {
    const { name, requests } = decodeInfoRequest(data);
    this.#withExport(name, (facts) => {
      this.#send(encodeInfoExport(code, facts.sizeBytes, facts.flags(this.#structuredReplies)));
      this.#send(encodeInfoBlockSize(code, facts.blockSizes));
      if (requests.includes(info.name)) this.#send(encodeInfoText(code, info.name, facts.canonicalName));
      if (requests.includes(info.description) && facts.description !== undefined) {
        this.#send(encodeInfoText(code, info.description, facts.description));
      }
      this.#acknowledge();
      if (code === option.go) this.#transmit(name);
    });
  }

  #listMetaContext(data: Uint8Array): void {
    const { name, queries } = decodeMetaContextRequest(data);
    this.#requireStructuredReplies();
    this.#withExport(name, (facts) => {
      for (const context of listContexts(facts.contextNames, queries)) {
        this.#send(encodeMetaContext(option.listMetaContext, 0, context));
      }
      this.#acknowledge();
    });
  }

  #setMetaContext(data: Uint8Array): void {
    this.#contexts = { exportName: '', selected: [] };
    const { name, queries } = decodeMetaContextRequest(data);
    this.#requireStructuredReplies();
    this.#withExport(name, (facts) => {
      const selected = selectContexts(facts.contextNames, queries);
      if (selected.length > this.#options.maxContexts) {
        this.#fail(optionReply.errorTooBig, `at most ${this.#options.maxContexts} contexts can be selected`);
        return;
      }
      this.#contexts = { exportName: name, selected };
      for (const context of selected) this.#send(encodeMetaContext(option.setMetaContext, context.id, context.name));
      this.#acknowledge();
    });
  }

  #requireStructuredReplies(): void {
    if (!this.#structuredReplies) throw new UnderstudyError('Invalid', 'structured replies must be negotiated first');
  }

  /** Goes on with the facts of an export, at once if it is the one opened last. */
  #withExport(name: string, use: (facts: ExportFacts) => void): void {
    if (this.#export?.name === name) {
      use(this.#export.facts);
      return;
    }
    this.#export = undefined;
    this.#openingName = name;
    this.#whenOpened = (facts) => this.#guarded(() => use(facts));
    this.#next = 'opening';
    this.#effects.push({ do: 'open', name });
  }

  /** Runs what had to wait for an export; a query that turns out wrong is answered like one found wrong at once. */
  #guarded(use: () => void): void {
    try {
      use();
    } catch (error) {
      if (!(error instanceof UnderstudyError) || error.code !== 'Invalid') throw error;
      this.#fail(optionReply.errorInvalid, error.message);
    }
  }

  #transmit(exportName: string): void {
    this.#next = 'finished';
    const contexts = this.#contexts.exportName === exportName ? this.#contexts.selected : [];
    const settings = { structuredReplies: this.#structuredReplies, contexts };
    const rest = this.#input.take(this.#input.length) ?? new Uint8Array(0);
    this.#effects.push({ do: 'transmit', settings, rest });
  }

  #acknowledge(): void {
    this.#send(encodeOptionReply(this.#header.option, optionReply.ack));
  }

  #fail(type: number, message: string): void {
    this.#send(encodeOptionError(this.#header.option, type, message));
  }

  #close(reason: string): void {
    this.#next = 'finished';
    this.#effects.push({ do: 'close', reason });
  }

  #send(bytes: Uint8Array): void {
    if (this.#next === 'finished') return;
    this.#replyBytes += bytes.length;
    if (this.#replyBytes > this.#options.maxReplyBytes) this.#close('the client asked for too much');
    else this.#effects.push({ do: 'send', bytes });
  }
}

function expectNoData(data: Uint8Array): void {
  if (data.length > 0) throw new UnderstudyError('Invalid', 'this option has no data');
}
