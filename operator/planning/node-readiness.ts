import type { Node } from '../resources/core-kinds.ts';

/** Its kubelet does not report, or says that it cannot run pods. */
export function isNotReady({ status }: Node): boolean {
  const ready = status?.conditions?.find(({ type }) => type === 'Ready');
  return ready !== undefined && ready.status !== 'True';
}
