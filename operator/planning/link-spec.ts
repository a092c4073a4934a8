import type { MirrorSpec, MirrorView, VolumeSpecInput, VolumeView } from '../../agent/api/contract/volumes.ts';
import { parseQuantity } from '../../common/quantity.ts';
import type { StandbyMirrorSpec } from '../resources/standby-mirror.ts';

/** What an agent is told of a link that is to be as it is. */
export function linkOf(view: MirrorView): MirrorSpec {
  const { name, address, mode, compression, journal, resyncBytesPerSecond } = view;
  return {
    name,
    address,
    mode,
    ...(compression === undefined ? {} : { compression }),
    ...(journal === undefined ? {} : { journal: { ...optionalPool(journal.pool), capacity: journal.capacity } }),
    ...(resyncBytesPerSecond === undefined ? {} : { resyncBytesPerSecond }),
  };
}

/** The link to the standby of a mirror, as its spec wants it. */
export function newLink(name: string, address: string, spec: StandbyMirrorSpec): MirrorSpec {
  const limit = spec.resyncRateLimit === undefined ? {} : { resyncBytesPerSecond: parseQuantity(spec.resyncRateLimit) };
  if (spec.mode === 'Synchronous') return { name, address, mode: 'synchronous', ...limit };
  const { journal, compression } = spec;
  return {
    name,
    address,
    mode: 'asynchronous',
    ...(compression === undefined ? {} : { compression: compression === 'Zstd' ? 'zstd' : 'none' }),
    ...(journal === undefined
      ? {}
      : { journal: { ...optionalPool(journal.pool), capacity: parseQuantity(journal.capacity) } }),
    ...limit,
  };
}

type WantedLink = NonNullable<VolumeSpecInput['mirrors']>[number];

/** Whether a copy's links are those wanted. What a wanted one leaves to the agent may be anything. */
export function sameLinks({ mirrors: views, pool }: VolumeView, wanted: readonly WantedLink[]): boolean {
  if (views.length !== wanted.length) return false;
  return wanted.every((link) => {
    const view = views.find(({ name }) => name === link.name);
    return view !== undefined && isAsWanted(view, link, pool);
  });
}

function isAsWanted(view: MirrorView, wanted: WantedLink, pool: string): boolean {
  const { address, mode, compression = 'none', journal, resyncBytesPerSecond } = wanted;
  return (
    view.address === address &&
    view.mode === mode &&
    (view.compression ?? 'none') === compression &&
    (journal === undefined ||
      (view.journal?.capacity === parseQuantity(journal.capacity) &&
        (view.journal.pool ?? pool) === (journal.pool ?? pool))) &&
    (resyncBytesPerSecond === undefined || view.resyncBytesPerSecond === parseQuantity(resyncBytesPerSecond))
  );
}

function optionalPool(pool: string | undefined): { pool?: string } {
  return pool === undefined ? {} : { pool };
}
