import type { MirrorLinkOptions } from './mirror-link-options.ts';

/**
 * A mirror that was synchronous before: its standby could be promoted as complete until the arbiter has said that it
 * cannot any more. Asks until there is an answer; writes wait as long as `record.needed` is true.
 * @param stopped whether nobody is interested any more
 */
export async function releaseFormerStandby(
  options: Pick<
    MirrorLinkOptions,
    'arbiter' | 'identity' | 'record' | 'onFenced' | 'onChange' | 'clock' | 'timing' | 'persist'
  >,
  stopped: () => boolean,
): Promise<void> {
  const { arbiter, identity, record, onFenced, onChange, clock, timing, persist } = options;
  const { volume, uid, epoch } = identity;
  const answer = await arbiter
    .markDropped({ volume, uid, epoch, mirror: record.name })
    .catch(() => 'unreachable' as const);
  if (stopped()) return;
  if (answer === 'refused') return onFenced('a newer epoch exists (the arbiter refused to make a mirror asynchronous)');
  if (answer === 'unreachable') {
    clock.after(timing.arbiterRetryMs, () => void releaseFormerStandby(options, stopped));
    return;
  }
  record.needed = false;
  // Asked once more after a restart, if this cannot be written down.
  await persist().catch(() => undefined);
  onChange();
}
