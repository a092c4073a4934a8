/**
 * What the kernel keeps with each of our devices, and shows in /sys/block/nbdN/backend:
 *
 *   understudy/<tag>/<attachment>[/<uid>/<epoch>]
 *
 * The tag tells the devices of one agent from those of another on the same kernel. Uid and epoch are those that a live
 * volume's device was made for: since the kernel gives a device a new connection only to whoever names all of this, a
 * device never gets into a later epoch, or to another volume of the same name. Pure.
 */
import type { VolumeBinding } from './export-source.ts';

const prefix = 'understudy';

export function encodeIdentifier(tag: string, name: string, binding: VolumeBinding | undefined): string {
  const whose = binding ? [encodeURIComponent(binding.uid ?? ''), String(binding.epoch)] : [];
  return [prefix, tag, name, ...whose].join('/');
}

/** The attachment's name; undefined if the device is not ours. */
export function attachmentOf(identifier: string, tag: string): string | undefined {
  const [first, second, name] = identifier.split('/');
  return first === prefix && second === tag && name !== '' ? name : undefined;
}
