/** What this node has attached of its volumes and snapshots. */
export interface NodeAttachments {
  /** Takes the snapshots of a volume away from whoever has them mounted: their I/O fails from now on. */
  takeSnapshotsAway(volume: string): Promise<void>;
  /** Devices of the live volume whose I/O waits, and does not fail, while nothing serves them; each has one connection. */
  lastingDevices(volume: string): number;
}

export const noAttachments: NodeAttachments = { takeSnapshotsAway: async () => undefined, lastingDevices: () => 0 };
