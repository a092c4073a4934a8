/** One line of /proc/self/mountinfo. */
export interface MountEntry {
  /** "major:minor" of the files in it; of an anonymous device ("0:39") for btrfs, FUSE and the like. */
  readonly device: string;
  /** The path within its filesystem that is mounted here: "/" unless it is a bind mount of something deeper. */
  readonly root: string;
  readonly mountPoint: string;
  readonly options: readonly string[];
  readonly fsType: string;
  /** For filesystems on a block device, the path of that device. */
  readonly source: string;
}

/**
 * The mounts in the order in which they were made: the later of two at the same mount point hides the earlier one.
 * Source of the format: proc_pid_mountinfo(5). Lines that do not fit it are left out.
 */
export function parseMountTable(text: string): MountEntry[] {
  return text.split('\n').flatMap((line) => parseEntry(line) ?? []);
}

function parseEntry(line: string): MountEntry | undefined {
  const fields = line.split(' ');
  const separator = fields.indexOf('-', 6);
  const [, , device, root, mountPoint, options] = fields;
  const [fsType, source] = separator < 0 ? [] : fields.slice(separator + 1);
  if (!device || !root || !mountPoint || options === undefined || !fsType || source === undefined) return undefined;
  return {
    device,
    root: unescapePath(root),
    mountPoint: unescapePath(mountPoint),
    options: options.split(','),
    fsType,
    source: unescapePath(source),
  };
}

/** The kernel writes blanks, tabs, newlines and backslashes in paths as three octal digits; the rest stays UTF-8. */
function unescapePath(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

/** What is mounted at a path, on top if several are; undefined if it is no mount point. */
export function mountedAt(table: readonly MountEntry[], mountPoint: string): MountEntry | undefined {
  return table.findLast((entry) => entry.mountPoint === mountPoint);
}

/**
 * Whether an entry makes a block device ("/dev/loop3") or the filesystem on it visible. The node of a device that has
 * been bind-mounted, as for a raw volume in a pod, shows as that name within /dev's own filesystem.
 */
export function showsDevice(entry: MountEntry, device: string): boolean {
  const node = device.slice('/dev'.length);
  return entry.source === device || (entry.fsType === 'devtmpfs' && entry.root === node);
}
