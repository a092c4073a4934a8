import type { SnapshotUsers } from '../volume/snapshot-users.ts';
import type { UseJournal } from './use-journal.ts';

/** The pods for which snapshots are published on this node, or pinned while that is under way. */
export class SnapshotPins implements SnapshotUsers {
  readonly #journal: UseJournal;

  constructor(journal: UseJournal) {
    this.#journal = journal;
  }

  usersOf(volume: string, snapshot: string): readonly string[] {
    const uses = this.#journal.uses.filter((use) => use.volume === volume && use.snapshot === snapshot);
    const published = uses.filter(({ kind }) => kind === 'published');
    if (published.length > 0) return [...new Set(published.map(({ pod, path }) => pod ?? `a pod at ${path}`))];
    return uses.map(({ path }) => `the kubelet at ${path}`);
  }
}
