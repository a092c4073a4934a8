import { UnderstudyError } from '../../common/errors.ts';
import type { VerificationRequest, VerificationView } from '../api/contract/verification.ts';
import type { Range } from '../core/range.ts';
import type { MirrorLinkOptions } from './mirror-link-options.ts';
import { RateLimit } from './rate-limit.ts';
import { type DigestLink, Verification } from './verification.ts';

/** The verifications of one mirror, one at a time; the last one is remembered. */
export class VerificationRuns {
  readonly #options: Pick<MirrorLinkOptions, 'base' | 'clock' | 'limit' | 'log'>;
  readonly #name: string;
  #last: Verification | undefined;

  constructor(name: string, options: Pick<MirrorLinkOptions, 'base' | 'clock' | 'limit' | 'log'>) {
    this.#name = name;
    this.#options = options;
  }

  /**
   * Begins to compare both copies while they are in use. `repair` gets what was found to differ, if that was asked for.
   * @throws UnderstudyError Conflict while one is under way
   */
  begin(link: DigestLink, request: VerificationRequest, repair: (ranges: Range[]) => Promise<void>): void {
    if (this.#last?.running)
      throw new UnderstudyError(
        'Conflict',
        `mirror ${this.#name} is being verified; stop that one first, or wait for it`,
      );
    const { base, clock, log, limit: resyncLimit } = this.#options;
    const { bytesPerSecond } = request;
    const limit = bytesPerSecond === undefined ? resyncLimit : new RateLimit(clock, bytesPerSecond);
    const verification = new Verification({ base, link, limit, clock, log, repair: request.repair });
    this.#last = verification;
    void verification.run().then(async () => {
      const ranges = [...verification.differing()];
      if (request.repair && ranges.length > 0) await repair(ranges);
    });
  }

  stop(reason: string): void {
    this.#last?.stop(reason);
  }

  /** A guest write goes out now. */
  written(range: Range): void {
    this.#last?.written(range);
  }

  view(): VerificationView | undefined {
    return this.#last?.view();
  }
}
