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
