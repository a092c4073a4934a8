import type { Clock } from '../common/clock.ts';
import type { Log } from '../common/log.ts';

/** What every part of an agent is given from outside. */
export interface AgentContext {
  /** Of Understudy. */
  readonly version: string;
  readonly clock: Clock;
  readonly log: Log;
}
