import { tmpdir } from 'node:os';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';

export interface BenchOptions {
  /** Names of the rows to measure; undefined for all but those that are run only when they are named. */
  readonly rows: readonly string[] | undefined;
  readonly rounds: number;
  /** Length of one measurement. */
  readonly seconds: number;
  readonly volumeBytes: number;
  /** Where the volumes of both sides are, all on one file system. */
  readonly directory: string;
  readonly jsonFile: string | undefined;
  /** Flags of Node.js for the agents, e.g. of its profiler. */
  readonly nodeFlags: readonly string[];
  readonly quick: boolean;
  readonly list: boolean;
}

export const usage = `npm run bench -- [options]
  --rows NAME,…   only these rows (--list names them)
  --rounds N      rounds per row, each with one measurement per side (5)
  --seconds N     length of a measurement (5)
  --size MIB      size of the volumes (1024)
  --directory D   where the volumes go (the folder for temporary files)
  --json FILE     write everything measured to a file
  --node-flags F  flags of Node.js for the agents, e.g. '--cpu-prof --cpu-prof-dir=/tmp/profiles'
  --quick         2 rounds of 1 second, volumes of 256 MiB
  --list          names the rows`;

/** @throws Error with what is wrong. */
export function parseOptions(args: string[]): BenchOptions {
  const { values } = parseArgs({
    args,
    options: {
      rows: { type: 'string' },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      size: { type: 'string' },
      directory: { type: 'string' },
      json: { type: 'string' },
      'node-flags': { type: 'string', default: '' },
      quick: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
    },
  });
  const { quick } = values;
  return {
    rows: values.rows?.split(',').filter((name) => name !== ''),
    rounds: positive('rounds', values.rounds, quick ? 2 : 5),
    seconds: positive('seconds', values.seconds, quick ? 1 : 5),
    volumeBytes: positive('size', values.size, quick ? 256 : 1024) * 1024 * 1024,
    directory: resolve(values.directory ?? tmpdir()),
    jsonFile: values.json === undefined ? undefined : resolve(values.json),
    nodeFlags: values['node-flags'].split(' ').filter((flag) => flag !== ''),
    quick,
    list: values.list,
  };
}

function positive(name: string, text: string | undefined, fallback: number): number {
  const value = text === undefined ? fallback : Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new Error(`--${name} must be a whole number above 0, not ${JSON.stringify(text)}`);
}
