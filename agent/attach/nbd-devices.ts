import { readdir } from 'node:fs/promises';
import { readIfThere } from './host-state.ts';

/** A device of the kernel's nbd driver that is in use, with the name that its maker gave it. */
export interface NbdDevice {
  readonly index: number;
  /** "/dev/nbd3" */
  readonly device: string;
  readonly identifier: string;
}

/** The devices that carry an identifier. Nothing is opened, so that nothing can hang. */
export async function readNbdDevices(): Promise<NbdDevice[]> {
  const names = (await readdir('/sys/block')).filter((name) => /^nbd[0-9]+$/.test(name));
  const devices = await Promise.all(
    names.map(async (name) => {
      const identifier = (await readIfThere(`/sys/block/${name}/backend`))?.replace(/\n$/, '');
      return identifier ? { index: Number(name.slice('nbd'.length)), device: `/dev/${name}`, identifier } : undefined;
    }),
  );
  return devices.filter((device) => device !== undefined);
}
