import { readdir, readlink } from 'node:fs/promises';
import { readIfThere } from './host-state.ts';
import { parseMountTable, showsDevice } from './mount-table.ts';

/** A process that keeps a filesystem or device busy. */
export interface Holder {
  readonly pid: number;
  readonly command: string;
  /** Its mount namespace shows the device here; that alone keeps it busy. */
  readonly mountedAt?: string;
}

/** Holders named in a message; more are only counted. */
const maxNamed = 5;

/**
 * The processes that keep a block device or the filesystem on it busy: those which have open, run, map or stand in a
 * file of it, and one for each mount namespace (container) other than ours in which it is mounted. Each process is asked
 * where the device is mounted in its own namespace. The answer is for people: processes come and go while it is gathered.
 */
export async function findHolders(device: string): Promise<Holder[]> {
  const pids = (await readdir('/proc')).filter((name) => /^[0-9]+$/.test(name));
  const ours = await linkIfThere('/proc/self/ns/mnt');
  const places = new Map<string, string[]>();
  const holders: Holder[] = [];
  for (const pid of pids) {
    const namespace = await linkIfThere(`/proc/${pid}/ns/mnt`);
    if (namespace === undefined) continue;
    const isFirst = !places.has(namespace);
    const known = places.get(namespace) ?? (await mountPointsOf(device, pid));
    places.set(namespace, known);
    const mountedAt = isFirst && namespace !== ours ? known[0] : undefined;
    if (mountedAt === undefined && !(await holds(pid, [device, ...known]))) continue;
    const holder = { pid: Number(pid), command: await commandOf(pid) };
    holders.push(mountedAt === undefined ? holder : { ...holder, mountedAt });
  }
  return holders;
}

/** "postgres (1234), bash (77)" */
export function describeHolders(holders: readonly Holder[]): string {
  const named = holders
    .slice(0, maxNamed)
    .map(
      ({ pid, command, mountedAt }) =>
        `${command} (${pid}${mountedAt === undefined ? '' : `, mounted at ${mountedAt}`})`,
    );
  const rest = holders.length - named.length;
  return named.join(', ') + (rest > 0 ? ` and ${rest} more` : '');
}

async function mountPointsOf(device: string, pid: string): Promise<string[]> {
  const text = (await readIfThere(`/proc/${pid}/mountinfo`)) ?? '';
  return parseMountTable(text)
    .filter((entry) => showsDevice(entry, device))
    .map((entry) => entry.mountPoint);
}

async function holds(pid: string, places: readonly string[]): Promise<boolean> {
  const isThere = (path: string) => places.some((place) => path === place || path.startsWith(`${place}/`));
  for (const link of ['cwd', 'root', 'exe']) {
    if (isThere((await linkIfThere(`/proc/${pid}/${link}`)) ?? '')) return true;
  }
  for (const descriptor of await listIfThere(`/proc/${pid}/fd`)) {
    if (isThere((await linkIfThere(`/proc/${pid}/fd/${descriptor}`)) ?? '')) return true;
  }
  const maps = (await readIfThere(`/proc/${pid}/maps`)) ?? '';
  return maps.split('\n').some((line) => isThere(line.slice(line.indexOf('/'))) && line.includes('/'));
}

async function commandOf(pid: string): Promise<string> {
  return ((await readIfThere(`/proc/${pid}/comm`)) ?? 'a process').trim();
}

/** A process may end, or be out of bounds, at any moment: then it has nothing to say. */
async function linkIfThere(path: string): Promise<string | undefined> {
  return readlink(path).catch(() => undefined);
}

async function listIfThere(path: string): Promise<string[]> {
  return readdir(path).catch(() => []);
}
