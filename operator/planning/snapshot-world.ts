import type { SnapshotView } from '../../agent/api/contract/volumes.ts';
import type { PrimaryVolume } from '../resources/primary-volume.ts';
import type { Snapshot } from '../resources/snapshot.ts';
import type { StandbyMirror } from '../resources/standby-mirror.ts';
import type { Observation, Outcomes } from './actions.ts';
import type { BindingFact } from './binding-fact.ts';
import type { HookFacts } from './plan-hooks.ts';

/** Everything that the plan for a snapshot depends on. */
export interface SnapshotWorld {
  /** RFC 3339. */
  readonly now: string;
  readonly nowMs: number;
  readonly snapshot: Snapshot;
  /** The mirror of spec.source.mirror, if it exists. */
  readonly mirror: StandbyMirror | undefined;
  /** The volume of the mirror, or of spec.source.volume, if it exists. */
  readonly volume: PrimaryVolume | undefined;
  /** What the agent that holds the copy says about the volume; undefined while that is not known. */
  readonly holder: Observation | undefined;
  /** What that agent says about the snapshot. */
  readonly held: HeldSnapshot | undefined;
  /** What the agent that was asked to take it says about it; looked at only while it is being deleted before it was taken. */
  readonly requested: HeldSnapshot | undefined;
  readonly outcomes: Outcomes;
  /** Of a snapshot with hooks that is not there yet, or has an open attempt. */
  readonly hooks?: HookFacts | undefined;
  /** Of a Snapshot that a SnapshotGroup made. */
  readonly group?: GroupFact | undefined;
  /** How its claim stands. */
  readonly claim?: BindingFact;
}

export interface GroupFact {
  readonly name: string;
  /** Its attempt at the agents, once all barriers of it are sent and no acknowledgement was let go before. */
  readonly attempt?: string | undefined;
}

export type HeldSnapshot =
  | { readonly kind: 'present'; readonly view: SnapshotView }
  | { readonly kind: 'absent' }
  | { readonly kind: 'unreachable'; readonly message: string }
  | { readonly kind: 'no-agent' };

/** The name of a snapshot at the agents: unique within its volume, whatever it is called in Kubernetes. */
export function agentSnapshotName(snapshot: Snapshot): string {
  return `snap-${snapshot.metadata.uid}`;
}
