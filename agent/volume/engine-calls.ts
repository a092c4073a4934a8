import { type ErrorCode, type ErrorLabels, errorCode, errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { HoldRequest } from '../api/contract/filling.ts';
import type { GroupHoldView } from '../api/contract/groups.ts';
import type { RestoreRequest } from '../api/contract/restore.ts';
import type { VerificationRequest } from '../api/contract/verification.ts';
import type { PrepareResult, SnapshotView, VolumeSpec, VolumeView } from '../api/contract/volumes.ts';
import type { Arbiter, ArbiterQuestion } from '../mirror/arbiter.ts';
import type { BarrierRecord } from '../mirror/messages.ts';
import type { MirrorTiming } from '../mirror/mirror-link-options.ts';
import type { ArbiterAnswer } from '../mirror/mirror-state.ts';
import type { LinkPurpose } from './mirror-preamble.ts';
import type { LiveChange } from './open-copy.ts';
import type { VolumeStatistics } from './operation-statistics.ts';
import type { LogMessage } from './port-log.ts';
import type { VolumeRecord } from './volume-record.ts';
import type { Lull, LullFound } from './write-activity.ts';

/** What the agent's main thread asks of a volume's thread. */
export interface EngineCalls {
  view(): VolumeView;
  statistics(): VolumeStatistics;
  record(): VolumeRecord;
  /** Clients of the live volume. */
  liveConnections(): number;
  changeLive(change: LiveChange): void;
  changeRole(spec: VolumeSpec): void;
  /** The arbiter's answer to a question that the thread has asked. */
  arbiterAnswered(id: number, answer: ArbiterAnswer): void;
  prepare(epoch: number): PrepareResult;
  verify(request: VerificationRequest): void;
  stopVerification(mirror: string | undefined): void;
  beginRestore(request: RestoreRequest): void;
  giveUpRestore(): void;
  hold(snapshot: string, hold: string, request: HoldRequest): void;
  releaseHold(snapshot: string, hold: string): void;
  /** Takes over an accepted connection by its file descriptor, which is then the thread's to close. */
  acceptMirror(descriptor: number, purpose: LinkPurpose): void;
  waitForLull(lull: Lull): LullFound;
  holdAcknowledgements(attempt: string, deadlineMs: number): GroupHoldView;
  releaseAcknowledgements(attempt: string): GroupHoldView;
  /**
   * Sends the barrier; what is written from then on is not in the snapshot. `mirror`: names separated by "/".
   * `frozenUntilMs`: the volume's filesystem is frozen until then (wall time), or not at all. `hooks` and `group`: as in the request.
   * @returns the attempt, to be finished
   */
  beginSnapshot(
    snapshot: string,
    mirror: string | undefined,
    frozenUntilMs: number | undefined,
    within: { readonly hooks?: string | undefined; readonly group?: string | undefined },
  ): string;
  /** Answers when the snapshot of this attempt is Ready. */
  finishSnapshot(attempt: string): BarrierRecord;
  snapshot(name: string): SnapshotView | undefined;
  deleteSnapshot(name: string): void;
  isBlank(): boolean;
  openScratch(snapshot: string, mount: string): { exportName: string; size: number };
  releaseScratch(snapshot: string, mount: string): void;
  /** Certificates for links that are made from now on. */
  setTls(tls: LinkTls): void;
  stop(): void;
}

export type EngineMethod = keyof EngineCalls;

/** Certificates and key in PEM, for links with mutual TLS. */
export interface LinkTls {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** What a volume's thread is started with. */
export interface EngineThreadData {
  readonly record: VolumeRecord;
  readonly dataDirectory: string;
  readonly bufferDirectory: string | undefined;
  /** The volume's folders in all pools of the node, by pool. */
  readonly poolDirectories: Readonly<Record<string, string>>;
  readonly socket: string;
  readonly tls: LinkTls | undefined;
  readonly timing: MirrorTiming;
  /** The agent has an arbiter, which answers what the thread asks of it. */
  readonly arbiter: boolean;
  readonly resyncBytesPerSecond: number | undefined;
}

export interface CallMessage {
  readonly id: number;
  readonly method: EngineMethod;
  readonly parameters: readonly unknown[];
}

export type ThreadMessage =
  | { readonly type: 'started' }
  | { readonly type: 'startFailed'; readonly error: PortableError }
  | { readonly type: 'result'; readonly id: number; readonly value: unknown }
  | { readonly type: 'error'; readonly id: number; readonly error: PortableError }
  | {
      readonly type: 'askArbiter';
      readonly id: number;
      readonly ask: keyof Arbiter;
      readonly question: ArbiterQuestion;
    }
  | LogMessage;

/** An error as plain data: class instances do not survive the way between threads. */
export interface PortableError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly labels: ErrorLabels;
}

export function toPortable(error: unknown): PortableError {
  const labels = error instanceof UnderstudyError ? error.labels : {};
  return { code: errorCode(error), message: errorMessage(error), labels };
}

export function fromPortable({ code, message, labels }: PortableError): UnderstudyError {
  return new UnderstudyError(code, message, { labels });
}
