/**
 * The messages of CSI and of the kubelet's registration as the protocol's files are read (see protocol.ts). In a request
 * what was not sent is empty or null; of an answer what is empty may be left out.
 */

export type AccessMode =
  | 'UNKNOWN'
  | 'SINGLE_NODE_WRITER'
  | 'SINGLE_NODE_READER_ONLY'
  | 'MULTI_NODE_READER_ONLY'
  | 'MULTI_NODE_SINGLE_WRITER'
  | 'MULTI_NODE_MULTI_WRITER'
  | 'SINGLE_NODE_SINGLE_WRITER'
  | 'SINGLE_NODE_MULTI_WRITER';

type StringMap = Readonly<Record<string, string>>;
export type Empty = Readonly<Record<string, never>>;

export interface VolumeCapability {
  readonly block?: object | null;
  readonly mount?: { readonly fsType: string; readonly mountFlags: readonly string[] } | null;
  readonly accessMode?: { readonly mode: AccessMode } | null;
}

/** 0: not said. */
export interface CapacityRange {
  readonly requiredBytes: number;
  readonly limitBytes: number;
}

export interface Topology {
  readonly segments: StringMap;
}

export interface VolumeCondition {
  readonly abnormal: boolean;
  readonly message: string;
}

// --- Identity

export interface PluginInfo {
  readonly name: string;
  readonly vendorVersion: string;
}
export type PluginService = 'CONTROLLER_SERVICE' | 'VOLUME_ACCESSIBILITY_CONSTRAINTS';
export interface PluginCapabilities {
  readonly capabilities: readonly (
    | { readonly service: { readonly type: PluginService } }
    | { readonly volumeExpansion: { readonly type: 'ONLINE' | 'OFFLINE' } }
  )[];
}
export interface ProbeResponse {
  readonly ready: { readonly value: boolean };
}

export interface IdentityCalls {
  getPluginInfo(request: Empty): Promise<PluginInfo>;
  getPluginCapabilities(request: Empty): Promise<PluginCapabilities>;
  probe(request: Empty): Promise<ProbeResponse>;
}

// --- Node

export interface NodeStageRequest {
  readonly volumeId: string;
  readonly stagingTargetPath: string;
  readonly volumeCapability: VolumeCapability | null;
  readonly volumeContext: StringMap;
}
export interface NodeUnstageRequest {
  readonly volumeId: string;
  readonly stagingTargetPath: string;
}
export interface NodePublishRequest extends NodeStageRequest {
  readonly targetPath: string;
  readonly readonly: boolean;
}
export interface NodeUnpublishRequest {
  readonly volumeId: string;
  readonly targetPath: string;
}
export interface NodeStatsRequest {
  readonly volumeId: string;
  readonly volumePath: string;
}
export interface VolumeUsage {
  readonly available?: number;
  readonly total: number;
  readonly used?: number;
  readonly unit: 'BYTES' | 'INODES';
}
export interface NodeStatsResponse {
  readonly usage: readonly VolumeUsage[];
  readonly volumeCondition: VolumeCondition;
}
export interface NodeExpandRequest {
  readonly volumeId: string;
  readonly volumePath: string;
  readonly capacityRange: CapacityRange | null;
  readonly volumeCapability: VolumeCapability | null;
}
export interface NodeExpandResponse {
  readonly capacityBytes: number;
}
export type NodeCapability =
  | 'STAGE_UNSTAGE_VOLUME'
  | 'GET_VOLUME_STATS'
  | 'EXPAND_VOLUME'
  | 'VOLUME_CONDITION'
  | 'SINGLE_NODE_MULTI_WRITER';
export interface NodeCapabilities {
  readonly capabilities: readonly { readonly rpc: { readonly type: NodeCapability } }[];
}
export interface NodeInfo {
  readonly nodeId: string;
  readonly accessibleTopology: Topology;
}

export interface NodeCalls {
  nodeStageVolume(request: NodeStageRequest): Promise<Empty>;
  nodeUnstageVolume(request: NodeUnstageRequest): Promise<Empty>;
  nodePublishVolume(request: NodePublishRequest): Promise<Empty>;
  nodeUnpublishVolume(request: NodeUnpublishRequest): Promise<Empty>;
  nodeGetVolumeStats(request: NodeStatsRequest): Promise<NodeStatsResponse>;
  nodeExpandVolume(request: NodeExpandRequest): Promise<NodeExpandResponse>;
  nodeGetCapabilities(request: Empty): Promise<NodeCapabilities>;
  nodeGetInfo(request: Empty): Promise<NodeInfo>;
}

// --- The kubelet's registration of plugins

export interface RegistrationInfo {
  readonly type: 'CSIPlugin';
  readonly name: string;
  readonly endpoint: string;
  readonly supportedVersions: readonly string[];
}
export interface RegistrationStatus {
  readonly pluginRegistered: boolean;
  readonly error: string;
}

export interface RegistrationCalls {
  getInfo(request: Empty): Promise<RegistrationInfo>;
  notifyRegistrationStatus(request: RegistrationStatus): Promise<Empty>;
}

// --- Controller

export interface VolumeContentSource {
  readonly snapshot?: { readonly snapshotId: string } | null;
  readonly volume?: { readonly volumeId: string } | null;
}
export interface TopologyRequirement {
  readonly requisite: readonly Topology[];
  readonly preferred: readonly Topology[];
}
export interface Volume {
  readonly volumeId: string;
  readonly capacityBytes: number;
  readonly volumeContext: StringMap;
  readonly accessibleTopology: readonly Topology[];
}
export interface CreateVolumeRequest {
  readonly name: string;
  readonly capacityRange: CapacityRange | null;
  readonly volumeCapabilities: readonly VolumeCapability[];
  readonly parameters: StringMap;
  readonly volumeContentSource: VolumeContentSource | null;
  readonly accessibilityRequirements: TopologyRequirement | null;
}
export interface VolumeResponse {
  readonly volume: Volume;
}
export interface VolumeIdRequest {
  readonly volumeId: string;
}
export interface ValidateCapabilitiesRequest {
  readonly volumeId: string;
  readonly volumeContext: StringMap;
  readonly volumeCapabilities: readonly VolumeCapability[];
  readonly parameters: StringMap;
}
export interface ValidateCapabilitiesResponse {
  readonly confirmed?: Pick<ValidateCapabilitiesRequest, 'volumeContext' | 'volumeCapabilities' | 'parameters'>;
  readonly message?: string;
}
export interface ListRequest {
  readonly maxEntries: number;
  readonly startingToken: string;
}
export interface VolumeEntry {
  readonly volume: Volume;
  readonly status: { readonly publishedNodeIds: readonly string[]; readonly volumeCondition: VolumeCondition };
}
export interface ListVolumesResponse {
  readonly entries: readonly VolumeEntry[];
  readonly nextToken: string;
}
export interface GetCapacityRequest {
  readonly volumeCapabilities: readonly VolumeCapability[];
  readonly parameters: StringMap;
  readonly accessibleTopology: Topology | null;
}
export interface GetCapacityResponse {
  readonly availableCapacity: number;
  readonly maximumVolumeSize?: { readonly value: number };
}
export type ControllerCapability =
  | 'CREATE_DELETE_VOLUME'
  | 'LIST_VOLUMES'
  | 'GET_CAPACITY'
  | 'CREATE_DELETE_SNAPSHOT'
  | 'LIST_SNAPSHOTS'
  | 'EXPAND_VOLUME'
  | 'VOLUME_CONDITION'
  | 'GET_VOLUME'
  | 'SINGLE_NODE_MULTI_WRITER';
export interface ControllerCapabilities {
  readonly capabilities: readonly { readonly rpc: { readonly type: ControllerCapability } }[];
}
export interface SnapshotMessage {
  readonly snapshotId: string;
  readonly sourceVolumeId: string;
  readonly sizeBytes: number;
  readonly creationTime: { readonly seconds: number; readonly nanos: number };
  readonly readyToUse: boolean;
}
export interface CreateSnapshotRequest {
  readonly sourceVolumeId: string;
  readonly name: string;
  readonly parameters: StringMap;
}
export interface SnapshotResponse {
  readonly snapshot: SnapshotMessage;
}
export interface DeleteSnapshotRequest {
  readonly snapshotId: string;
}
export interface ListSnapshotsRequest extends ListRequest {
  readonly sourceVolumeId: string;
  readonly snapshotId: string;
}
export interface ListSnapshotsResponse {
  readonly entries: readonly SnapshotResponse[];
  readonly nextToken: string;
}
export interface ExpandVolumeRequest {
  readonly volumeId: string;
  readonly capacityRange: CapacityRange | null;
  readonly volumeCapability: VolumeCapability | null;
}
export interface ExpandVolumeResponse {
  readonly capacityBytes: number;
  readonly nodeExpansionRequired: boolean;
}

export interface ControllerCalls {
  createVolume(request: CreateVolumeRequest): Promise<VolumeResponse>;
  deleteVolume(request: VolumeIdRequest): Promise<Empty>;
  validateVolumeCapabilities(request: ValidateCapabilitiesRequest): Promise<ValidateCapabilitiesResponse>;
  listVolumes(request: ListRequest): Promise<ListVolumesResponse>;
  controllerGetVolume(request: VolumeIdRequest): Promise<VolumeEntry>;
  getCapacity(request: GetCapacityRequest): Promise<GetCapacityResponse>;
  controllerGetCapabilities(request: Empty): Promise<ControllerCapabilities>;
  createSnapshot(request: CreateSnapshotRequest): Promise<SnapshotResponse>;
  deleteSnapshot(request: DeleteSnapshotRequest): Promise<Empty>;
  listSnapshots(request: ListSnapshotsRequest): Promise<ListSnapshotsResponse>;
  controllerExpandVolume(request: ExpandVolumeRequest): Promise<ExpandVolumeResponse>;
}
