import type { MirrorSpec, VolumeView } from '../../agent/api/contract/volumes.ts';
import type { PrimaryVolume } from '../resources/primary-volume.ts';
import { linkOf, newLink } from './link-spec.ts';
import { isLinkable, type MirrorFact } from './mirror-facts.ts';
import { isDeleting } from './object-plan.ts';
import { isMoving } from './stale-copies.ts';

/**
 * The links that a copy is to have: those of the mirrors it feeds that can have one. Links of mirrors about which nothing
 * can be said now stay as they are, and so do links that the operator did not make (someone set them up at the agent).
 * Those of mirrors that are being deleted, were abandoned, are fed by another copy now, or whose standby was given up, go.
 * @param feeder the mirror whose standby the copy is; undefined for the primary
 */
export function wantedLinks(
  volume: PrimaryVolume,
  view: VolumeView,
  mirrors: readonly MirrorFact[],
  feeder: string | undefined,
): MirrorSpec[] {
  const feeds = (fact: MirrorFact) => fact.upstream?.name === feeder;
  const kept = view.mirrors.filter((link) => {
    const fact = mirrors.find(({ name }) => name === link.name);
    if (fact !== undefined)
      return feeds(fact) && fact.standing !== 'promoted' && !isDeleting(fact.mirror) && !isMoving(volume, fact);
    return !volume.status?.copies?.some((copy) => copy.name === link.name);
  });
  const links = new Map(kept.map((link) => [link.name, linkOf(link)]));
  for (const fact of mirrors) {
    const { address } = fact;
    if (!feeds(fact) || !isLinkable(fact) || !fact.spec.ok || address === undefined) continue;
    links.set(fact.name, newLink(fact.name, address, fact.spec.value));
  }
  return [...links.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}
