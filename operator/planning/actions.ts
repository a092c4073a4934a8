import type { GroupHoldView } from '../../agent/api/contract/groups.ts';
import type { RestoreRequestInput } from '../../agent/api/contract/restore.ts';
import type { SnapshotRequestInput } from '../../agent/api/contract/snapshots.ts';
import type { PrepareResult, SnapshotView, VolumeSpecInput, VolumeView } from '../../agent/api/contract/volumes.ts';
import type { ErrorCode } from '../../common/errors.ts';

/** Something to ask of an agent. All of them are idempotent. */
export type AgentAction =
  | { readonly type: 'put-volume'; readonly node: string; readonly volume: string; readonly spec: VolumeSpecInput }
  | { readonly type: 'delete-volume'; readonly node: string; readonly volume: string }
  /** Before a promotion: the standby refuses everything below that epoch from then on. */
  | { readonly type: 'prepare-volume'; readonly node: string; readonly volume: string; readonly epoch: number }
  | {
      readonly type: 'put-snapshot';
      readonly node: string;
      readonly volume: string;
      readonly snapshot: string;
      readonly request: SnapshotRequestInput;
    }
  | {
      readonly type: 'put-restore';
      readonly node: string;
      readonly volume: string;
      readonly request: RestoreRequestInput;
    }
  | { readonly type: 'give-up-restore'; readonly node: string; readonly volume: string }
  /** The snapshot is kept for the volume of that name, which is filled from it on the node `reader`. */
  | {
      readonly type: 'put-hold' | 'delete-hold';
      readonly node: string;
      readonly volume: string;
      readonly snapshot: string;
      readonly hold: string;
      readonly reader: string;
    }
  /** For an attempt of a snapshot group, at the primary: what is written there is not acknowledged, or is again. */
  | {
      readonly type: 'hold-acknowledgements' | 'release-acknowledgements';
      readonly node: string;
      readonly volume: string;
      readonly attempt: string;
    }
  | { readonly type: 'delete-snapshot'; readonly node: string; readonly volume: string; readonly snapshot: string };

/** Why an action did not succeed. */
export interface Failure {
  readonly code: ErrorCode;
  readonly message: string;
  /** The agent answered, and refused; else it could not be reached. */
  readonly answered: boolean;
}

/** What became of the actions of an earlier round of the same reconciliation, by actionKey. */
export type Outcomes = ReadonlyMap<string, Outcome>;

export type Outcome =
  | {
      readonly ok: true;
      readonly action: AgentAction;
      readonly snapshot?: SnapshotView;
      readonly prepared?: PrepareResult;
      readonly group?: GroupHoldView;
    }
  | { readonly ok: false; readonly action: AgentAction; readonly failure: Failure };

/** What the agent of a node says about its copy of a volume. */
export type Observation =
  | { readonly kind: 'present'; readonly view: VolumeView }
  | { readonly kind: 'absent' }
  | { readonly kind: 'unreachable'; readonly message: string }
  /** No agent is configured for the node. */
  | { readonly kind: 'no-agent' };

/** One key for each thing that an action is about, whatever it asks for. */
export function actionKey(action: {
  readonly type: AgentAction['type'];
  readonly node: string;
  readonly volume: string;
  readonly snapshot?: string;
}): string {
  return [action.type, action.node, action.volume, action.snapshot ?? ''].join(' ');
}

/** The failure of an action in this reconciliation, if it was tried and failed. */
export function failureOf(outcomes: Outcomes, action: Parameters<typeof actionKey>[0]): Failure | undefined {
  const outcome = outcomes.get(actionKey(action));
  return outcome === undefined || outcome.ok ? undefined : outcome.failure;
}

export function observationKey(node: string, volume: string): string {
  return `${node}/${volume}`;
}
