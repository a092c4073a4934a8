import type { VolumeSpecInput } from '../../../agent/api/contract/volumes.ts';
import { TestAuthority } from '../../support/certificates.ts';
import { waitFor } from '../../support/wait-for.ts';
import type { Bench } from '../bench-context.ts';
import type { NbdTarget } from '../fio.ts';
import { BenchAgent } from './agent.ts';
import { fill } from './fill.ts';

/** A volume with a primary and a standby in agents of their own. */
export interface MirroredVolume {
  readonly name: string;
  readonly primary: BenchAgent;
  readonly standby: BenchAgent;
  readonly target: NbdTarget;
}

export interface AgentPair {
  readonly primary: BenchAgent;
  readonly standby: BenchAgent;
}

export interface PairOptions {
  readonly tls?: boolean;
  /** Each agent on a core of its own, as on a machine of its own. */
  readonly pinned?: boolean;
  readonly attach?: 'fuse';
}

export const cores = { primary: 0, standby: 1 } as const;

export async function startPair(bench: Bench, { tls, pinned, attach }: PairOptions = {}): Promise<AgentPair> {
  const authority = tls ? await TestAuthority.create() : undefined;
  if (authority) bench.cleanUp(() => authority.remove());
  const start = (node: string, core: number) =>
    BenchAgent.start(bench, {
      node,
      ...(pinned ? { core } : {}),
      ...(authority ? { authority } : {}),
      ...(attach ? { attach } : {}),
    });
  return { primary: await start('a', cores.primary), standby: await start('b', cores.standby) };
}

/** Resolves when the standby is in sync. */
export async function createMirrored(
  { primary, standby }: AgentPair,
  name: string,
  size: number,
  spec: Partial<VolumeSpecInput> = {},
): Promise<MirroredVolume> {
  const buffer = { pool: 'buffer', capacity: Math.max(2 * size, 1024 ** 3), maxSnapshots: 64 };
  const common = { size, pool: 'main', epoch: 1, ...spec };
  await standby.client.putVolume(name, { ...common, role: 'standby', buffer });
  const mirrors = [{ name: standby.node, address: standby.mirrorAddress, mode: 'synchronous' as const }];
  const { nbd } = await primary.client.putVolume(name, { ...common, role: 'primary', mirrors });
  await untilInSync(primary, name);
  return {
    name,
    primary,
    standby,
    target: { kind: 'nbd', socket: nbd, exportName: name, pids: () => [primary.pid, standby.pid] },
  };
}

export async function untilInSync(primary: BenchAgent, volume: string): Promise<void> {
  const inSync = async () => (await primary.mirror(volume)).state === 'InSync';
  await waitFor(inSync, { timeoutMs: 300_000, what: `volume ${volume} to be in sync` });
}

/** The volume that most rows share: all of it written, in sync, and with a buffer at the standby. */
export function mirroredVolume(bench: Bench, options: PairOptions = {}): Promise<MirroredVolume> {
  return bench.shared(`mirrored ${JSON.stringify(options)}`, async () => {
    const volume = await createMirrored(await startPair(bench, options), 'vol', bench.options.volumeBytes);
    await fill(bench, volume.target);
    return volume;
  });
}

export function snapshotTarget({ standby, name }: MirroredVolume, snapshot: string): NbdTarget {
  return { kind: 'nbd', socket: `${standby.folder}/nbd/${name}.sock`, exportName: `${name}@${snapshot}` };
}

/** Takes a snapshot on the standby. */
export async function takeSnapshot({ primary, standby, name }: MirroredVolume, snapshot: string): Promise<void> {
  const { state, reason } = await primary.client.putSnapshot(name, snapshot, { mirror: standby.node });
  if (state !== 'Ready') throw new Error(`snapshot ${snapshot} is ${state}: ${reason ?? 'no reason given'}`);
}

/** What a row that failed may have left behind. */
export async function dropSnapshots({ primary, standby, name }: MirroredVolume): Promise<void> {
  for (const { name: snapshot } of (await standby.volume(name)).snapshots) {
    await standby.client.deleteSnapshot(name, snapshot);
    await primary.client.deleteSnapshot(name, snapshot);
  }
}

/**
 * Deletes all snapshots, so that the buffer is empty, and has the primary forget them too: it would answer a request for
 * one of the same name with what became of the first.
 * @throws Error if one has been lost meanwhile.
 */
export async function deleteSnapshots(volume: MirroredVolume): Promise<void> {
  const { snapshots } = await volume.standby.volume(volume.name);
  const lost = snapshots.find(({ state }) => state !== 'Ready');
  if (lost || snapshots.length === 0) throw new Error(`a snapshot was lost while measuring: ${lost?.reason ?? 'gone'}`);
  await dropSnapshots(volume);
}
