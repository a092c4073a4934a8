import type { PeerIdentity } from '../../common/peer-identity.ts';
import type { BlockDevice } from '../core/block-device.ts';
import type { BackgroundPace } from './background-pace.ts';

/**
 * The status of a stretch of an export in one metadata context: the context defines what `flags` mean. A list of them
 * covers the queried range exactly, in order, without empty ones.
 */
export interface ContextExtent {
  readonly length: number;
  readonly flags: number;
}

/** Answers for a range that lies within the export and is aligned to its blocks. It must be cheap: it is synchronous. */
export type ContextQuery = (offset: number, length: number) => ContextExtent[];

/** An opened export; each connection opens its own. */
export interface NbdExport {
  /** The canonical name, if it can differ from the one that was asked for (such as the empty default name). */
  readonly name?: string;
  readonly device: BlockDevice;
  readonly readOnly: boolean;
  /** What one connection has written and flushed is seen by the others, so that clients may use several at once. */
  readonly multiConn: boolean;
  /**
   * Its clients give way to everything else that this thread does, together with those of all exports of the same pace.
   * Without it, a backup that reads a snapshot as fast as it can would hold up the mirror's acknowledgements, and so the
   * primary's writes.
   */
  readonly background?: BackgroundPace;
  /** For people, shown by clients that list exports. */
  readonly description?: string;
  /** Metadata contexts besides base:allocation, by name, e.g. "qemu:dirty-bitmap:<snapshot>". */
  readonly contexts: ReadonlyMap<string, ContextQuery>;
  /** Called exactly once, when the connection has ended and every request that reached the device has completed. */
  close(): Promise<void>;
}

/** Who asks for an export. */
export interface NbdClient {
  /**
   * Who the client's certificate says it is, if it connected with TLS and the certificate names an identity. Whoever
   * opens exports decides what that identity may use; a client without TLS came through a root-only socket.
   */
  readonly peer?: PeerIdentity;
}

/** The port towards the layer that owns the volumes. */
export interface ExportProvider {
  /** Names that a client may be told of. Others can still be opened by those who know them. */
  list(): string[];
  /**
   * Opens an export for one connection. The empty name asks for the default export, if there is one.
   * @throws UnderstudyError NotFound, NotReady, InUse, Fenced, …; its message is shown to the client.
   */
  open(name: string, client: NbdClient): Promise<NbdExport>;
}
