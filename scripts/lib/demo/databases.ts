import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { PostgresServer } from '../../../test/support/postgres.ts';
import { checkSeats, type Expectation, type SeatFindings } from '../../../test/workloads/seat-reservation/checker.ts';
import type { Cleanup } from './cleanup.ts';
import { coreLauncher, type DemoNode } from './command.ts';

/** Where, below a mounted volume, the database has its files. */
export const dataFolder = 'postgresql';

/** A PostgreSQL server on a node, with its files in a folder on a volume or in a restored copy of one. */
export function databaseOn(
  node: DemoNode,
  name: string,
  parent: string,
  stage: { folder: string; cleanup: Cleanup },
): PostgresServer {
  const socketDirectory = join(stage.folder, `${name}.socket`);
  mkdirSync(socketDirectory);
  const server = new PostgresServer({
    dataDirectory: join(parent, dataFolder),
    socketDirectory,
    logFile: join(stage.folder, `${name}.log`),
    launcher: coreLauncher(node),
  });
  stage.cleanup.add(`end PostgreSQL ${name}`, () => server.kill());
  return server;
}

/** Starts a database on a copy of another's files. @throws Error with what the server said if it cannot use them */
export async function startOnCopy(server: PostgresServer): Promise<void> {
  await server.removeForeignLock();
  await server.start();
}

/** Looks at the seats of a running database from all sides. */
export async function examine(server: PostgresServer, expectation: Expectation): Promise<SeatFindings> {
  const client = await server.connect();
  try {
    return await checkSeats(client, expectation);
  } finally {
    await client.end();
  }
}

/** What was found, in one line. */
export function describeFindings({ seatsSold, seatsFree, acknowledgedFound, problems }: SeatFindings): string {
  if (problems.length > 0) return problems.join('; ');
  return `whole; ${seatsSold} sold + ${seatsFree} free = ${seatsSold + seatsFree}; all ${acknowledgedFound} acknowledged sales there`;
}
