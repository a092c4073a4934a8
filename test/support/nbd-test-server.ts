import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BlockDevice } from '../../agent/core/block-device.ts';
import type { ExportProvider, NbdClient, NbdExport } from '../../agent/nbd/exports.ts';
import { NbdServer, type NbdServerOptions } from '../../agent/nbd/server.ts';
import { UnderstudyError } from '../../common/errors.ts';
import { silentLog } from '../../common/log.ts';

export interface TestExport extends Partial<Omit<NbdExport, 'device' | 'close'>> {
  readonly device: BlockDevice;
}

/** Exports by their names, which counts those that are open. */
export class TestExports implements ExportProvider {
  readonly #exports: ReadonlyMap<string, TestExport>;
  openCount = 0;
  lastClient: NbdClient | undefined;

  constructor(exports: Readonly<Record<string, TestExport>>) {
    this.#exports = new Map(Object.entries(exports));
  }

  list(): string[] {
    return [...this.#exports.keys()];
  }

  async open(name: string, client: NbdClient): Promise<NbdExport> {
    this.lastClient = client;
    const found = this.#exports.get(name);
    if (!found) throw new UnderstudyError('NotFound', `there is no export "${name}"`);
    this.openCount += 1;
    const close = async () => {
      this.openCount -= 1;
    };
    return { readOnly: false, multiConn: true, contexts: new Map(), ...found, close };
  }
}

export interface TestServer {
  readonly server: NbdServer;
  readonly exports: TestExports;
  readonly directory: string;
  readonly path: string;
  /** As libnbd, fio and qemu take it. */
  uri(exportName: string): string;
  stop(): Promise<void>;
}

/** A real server on a unix socket in a directory of its own. */
export async function startTestServer(
  exportsByName: Readonly<Record<string, TestExport>>,
  options: Partial<NbdServerOptions> = {},
): Promise<TestServer> {
  const directory = await mkdtemp(join(tmpdir(), 'understudy-nbd-'));
  const path = join(directory, 'nbd.sock');
  const exports = new TestExports(exportsByName);
  const server = await NbdServer.listen({ log: silentLog, exports, path, ...options });
  return {
    server,
    exports,
    directory,
    path,
    uri: (exportName) => `nbd+unix:///${encodeURIComponent(exportName)}?socket=${path}`,
    async stop() {
      await server.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
