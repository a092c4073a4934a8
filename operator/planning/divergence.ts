import type { Finding } from '../resources/conditions.ts';
import { discardAnnotation } from '../resources/group.ts';
import { isSuperseded } from './arbiter-records.ts';
import { listNames } from './findings.ts';
import type { MirrorFact } from './mirror-facts.ts';
import type { PrimaryFact } from './primary.ts';

/** Snapshots of these names are made by agents, of what a copy held when it was the primary for the last time. */
const formerPrefix = 'former-epoch-';

/** Writes that only copies have which are not the primary: acknowledged ones, and what was kept of others. */
export function divergenceFindings(primary: PrimaryFact, facts: readonly MirrorFact[]): Finding[] {
  const { record } = primary;
  const divergent = divergentCopies(primary, facts);
  const kept = facts.flatMap(({ name, placed, view }) =>
    (view?.snapshots ?? [])
      .filter((snapshot) => snapshot.name.startsWith(formerPrefix))
      .map((snapshot) => `${snapshot.name} of the copy ${name} on node ${placed?.node}`),
  );
  const findings: Finding[] = [];
  if (divergent.length > 0) {
    const message =
      `${listNames(divergent)} may have acknowledged writes that the primary on node ${record.node} does not have. ` +
      `Both are kept as they are. To give up what only such a copy has: kubectl annotate … ${discardAnnotation}=<name of the copy>`;
    findings.push({ type: 'SplitBrain', status: 'True', reason: 'MayHaveDiverged', message });
  }
  if (kept.length > 0) {
    const message = `what it had written alone is kept as the snapshot ${listNames(kept)}`;
    findings.push({ type: 'FormerContentKept', status: 'True', reason: 'SnapshotTaken', message });
  }
  return findings;
}

/** Those that the record names, and those that turn up as primaries of older epochs of which it knows nothing good. */
export function divergentCopies({ record }: PrimaryFact, facts: readonly MirrorFact[]): string[] {
  const found = facts.filter(
    ({ name, standing, view }) =>
      standing === 'former' && view !== undefined && !isSuperseded(record, name, view.epoch),
  );
  return [...new Set([...record.divergent, ...found.map(({ name }) => name)])].sort();
}
