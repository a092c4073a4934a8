import { UnderstudyError } from '../../common/errors.ts';
import type { BarrierDone, BarrierRecord } from './messages.ts';

const knownCodes = [
  'AlreadyExists',
  'NoSpace',
  'NotReady',
  'Invalid',
  'Io',
  'Conflict',
  'NotFound',
  'Unavailable',
] as const;

/** What became of a barrier at the standby. @throws UnderstudyError with the standby's reason */
export function barrierOutcome({ snapshot, record, error }: BarrierDone): BarrierRecord {
  if (error) throw new UnderstudyError(knownCodes.find((known) => known === error.code) ?? 'Io', error.message);
  if (record) return record;
  throw new UnderstudyError('Protocol', `the standby took snapshot ${snapshot} and did not say when`);
}
