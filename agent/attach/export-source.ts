/** Whose writes a live device carries: those of the primary of this volume in this epoch, and never of another. */
export interface VolumeBinding {
  readonly uid: string | undefined;
  readonly epoch: number;
}

/** An NBD export on a unix socket of this machine, with what must be known to make a block device of it. */
export interface AttachableExport {
  /** Path of the server's unix socket. */
  readonly socket: string;
  readonly exportName: string;
  readonly sizeBytes: number;
  /** Logical block size of the device to be made, 512 or 4096: a property of the volume. */
  readonly blockSize: number;
  readonly readOnly: boolean;
  /** Of a live volume. */
  readonly binding?: VolumeBinding;
}

/** What attaching needs of the volumes. */
export interface ExportSource {
  /** Does what the volume could not do while it was attached; called before it is attached when it is not. Never throws. */
  catchUp?(volume: string): Promise<void>;
  /** The live volume of a primary. @throws NotFound, NotReady (not primary, or recovering), Fenced */
  liveExport(volume: string): Promise<AttachableExport>;
  /**
   * What a live device of the volume must be bound to, to be of use. Undefined once none can be: the copy here is
   * fenced, no primary, or gone. Answers also while the volume cannot be used for the moment.
   */
  liveBinding(volume: string): Promise<VolumeBinding | undefined>;
  /** True if every byte of the volume certainly reads as zero. */
  isBlank(volume: string): Promise<boolean>;
  /**
   * A writable view of a snapshot. Its writes go to a scratch overlay on disk which is kept until it is released, also
   * over a restart of the agent; meanwhile the snapshot is held as by a reader. Idempotent per (volume, snapshot, mount).
   * @throws NotFound, NotReady, NoSpace
   */
  openScratch(volume: string, snapshot: string, mount: string): Promise<AttachableExport>;
  /** Removes the overlay and lets go of the snapshot. Idempotent. */
  releaseScratch(volume: string, snapshot: string, mount: string): Promise<void>;
}
