import { type AttachDriver, NoDriver } from './driver.ts';

/** `attach` of the agent's configuration. */
export type AttachSetting = 'auto' | 'nbd' | 'fuse' | 'none';

/**
 * The driver for a node: the one that is configured, or with `auto` the first usable of `drivers`, which are given best
 * first. Where none can be used the answer is a driver that refuses to attach and says why.
 */
export async function chooseDriver(setting: AttachSetting, drivers: readonly AttachDriver[]): Promise<AttachDriver> {
  if (setting === 'none') return new NoDriver('attaching is turned off in the agent\'s configuration ("attach: none")');
  const candidates = drivers.filter((driver) => setting === 'auto' || driver.kind === setting);
  const reasons: string[] = [];
  for (const driver of candidates) {
    const reason = await driver.unusable();
    if (reason === undefined) return driver;
    reasons.push(`${driver.kind}: ${reason}`);
  }
  return new NoDriver(reasons.join('; ') || `this agent has no driver "${setting}"`);
}
