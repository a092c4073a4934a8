import { UnderstudyError } from '../../common/errors.ts';
import type { NbdClient } from './exports.ts';

/** What clients of other nodes may use: snapshots only, or the live volumes too. */
export type RemoteExports = 'snapshots' | 'all';

const volumeName = /^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/;
const maxVolumeNameLength = 128;

/**
 * The volume of an export's name, if this client may use that export over the network. Pure.
 *
 * - `<volume>@<snapshot>`, which is read-only: the operator, and peers of the role backup.
 * - `<volume>`, the live volume: the operator, and only where the agent offers it.
 * - Scratch overlays are for this node's own mounts.
 *
 * A client without TLS is one of this machine: without TLS the port is on loopback, and its clients may do everything.
 *
 * @throws UnderstudyError NotFound, Conflict (not for this client); the message is shown to it
 */
export function volumeOfRemoteExport(name: string, { peer }: NbdClient, offered: RemoteExports, tls: boolean): string {
  const [volume = '', ...snapshot] = name.split('@');
  const isName = volumeName.test(volume) && volume.length <= maxVolumeNameLength && !volume.includes('..');
  if (!isName || name.includes('+')) throw new UnderstudyError('NotFound', `no export ${JSON.stringify(name)} here`);
  const role = tls ? peer?.role : 'operator';
  if (snapshot.length > 0) {
    if (role === 'operator' || role === 'backup') return volume;
  } else if (offered === 'snapshots') {
    throw new UnderstudyError('Conflict', 'live volumes are not offered over the network here; only snapshots are');
  } else if (role === 'operator') {
    return volume;
  }
  throw new UnderstudyError('Conflict', `export ${JSON.stringify(name)} is not for ${role ?? 'an unknown role'}`);
}
