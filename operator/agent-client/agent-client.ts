import type { HoldRequest } from '../../agent/api/contract/filling.ts';
import type { GroupHoldView } from '../../agent/api/contract/groups.ts';
import type { NodeView } from '../../agent/api/contract/node.ts';
import type { RestoreRequestInput } from '../../agent/api/contract/restore.ts';
import type { SnapshotRequestInput } from '../../agent/api/contract/snapshots.ts';
import type { PrepareResult, SnapshotView, VolumeSpecInput, VolumeView } from '../../agent/api/contract/volumes.ts';

/**
 * What the operator asks an agent. Every failure is an UnderstudyError: with the agent's own code and message if it
 * answered, else Unavailable, Timeout, or Protocol when the answer is not of the contract's shape.
 */
export interface AgentClient {
  /** What it says of itself. */
  getNode(): Promise<NodeView>;
  /** Every copy on that node. */
  listVolumes(): Promise<VolumeView[]>;
  /** Undefined if the agent does not know the volume. */
  getVolume(volume: string): Promise<VolumeView | undefined>;
  putVolume(volume: string, spec: VolumeSpecInput): Promise<VolumeView>;
  /** A volume that is not there is no error. @throws InUse */
  deleteVolume(volume: string): Promise<void>;
  prepare(volume: string, epoch: number): Promise<PrepareResult>;
  /** Begins a restore at the primary, or finds the one of that name. */
  putRestore(volume: string, request: RestoreRequestInput): Promise<VolumeView>;
  /** Without a restore under way, no error. */
  giveUpRestore(volume: string): Promise<void>;
  /** The snapshot, Ready or still Waiting: asking again with the same name answers what became of it. */
  putSnapshot(volume: string, snapshot: string, request: SnapshotRequestInput): Promise<SnapshotView>;
  /** Undefined if the agent does not know the snapshot, or its volume. */
  getSnapshot(volume: string, snapshot: string): Promise<SnapshotView | undefined>;
  /** Holds the acknowledgements of writes for an attempt of a snapshot group, at the primary, up to a deadline. */
  holdAcknowledgements(volume: string, attempt: string): Promise<GroupHoldView>;
  /** Lets them go, and says whether they were held until now. @throws NotFound (the attempt is not known there) */
  releaseAcknowledgements(volume: string, attempt: string): Promise<GroupHoldView>;
  /** Keeps a snapshot for the volume whose name the hold has. */
  putHold(volume: string, snapshot: string, hold: string, request: HoldRequest): Promise<SnapshotView>;
  /** One that is not there is no error. */
  deleteHold(volume: string, snapshot: string, hold: string): Promise<void>;
  /** A snapshot that is not there is no error. @throws InUse */
  deleteSnapshot(volume: string, snapshot: string): Promise<void>;
}

/** How the agent of a node is reached. */
export interface AgentEntry {
  readonly node: string;
  readonly client: AgentClient;
  /** host:port at which the agent takes mirror links, where primaries on other nodes connect to; undefined while that is not known. */
  readonly mirrorAddress: string | undefined;
}

/** Which nodes have agents. */
export interface AgentDirectory {
  /** Undefined for a node that has none. */
  find(node: string): AgentEntry | undefined;
  /** All of them, by node. */
  entries(): readonly AgentEntry[];
}

/** A directory that never changes. */
export function staticAgentDirectory(entries: readonly AgentEntry[]): AgentDirectory {
  const byNode = new Map(entries.map((entry) => [entry.node, entry]));
  const sorted = [...byNode.values()].toSorted((a, b) => a.node.localeCompare(b.node));
  return { find: (node) => byNode.get(node), entries: () => sorted };
}
