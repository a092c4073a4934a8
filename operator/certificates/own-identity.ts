import type { Clock, Timer } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import {
  type Authority,
  type AuthorityPolicy,
  activeAuthority,
  bundleOf,
  leafExpiryMs,
  renewalMs,
} from './authorities.ts';
import { type IssuedIdentity, issueIdentity, type RandomBytes } from './x509.ts';

/** PEM. */
export interface OwnTls extends IssuedIdentity {
  readonly ca: string;
}

export interface OwnIdentityOptions {
  readonly name: string;
  /** DNS names and addresses at which agents reach this operator. */
  readonly alternativeNames: readonly string[];
  readonly policy: AuthorityPolicy;
  readonly clock: Clock;
  readonly random: RandomBytes;
  readonly log: Log;
  readonly onChange: (tls: OwnTls) => void;
}

/**
 * The certificate of this operator, for its clients of agents and for its enrollment endpoint. It has the authority's key,
 * so it issues its own, in memory: anew when another authority signs, and in time before it expires.
 */
export class OwnIdentity {
  readonly #options: OwnIdentityOptions;
  #issuedBy: string | undefined;
  #identity: IssuedIdentity | undefined;
  #bundle = '';
  #authorities: readonly Authority[] = [];
  #timer: Timer | undefined;
  #stopped = false;

  constructor(options: OwnIdentityOptions) {
    this.#options = options;
  }

  get current(): OwnTls | undefined {
    return this.#identity && { ...this.#identity, ca: this.#bundle };
  }

  /** The authorities are these now. */
  async use(authorities: readonly Authority[]): Promise<void> {
    this.#authorities = authorities;
    const active = activeAuthority(authorities);
    const bundle = bundleOf(authorities);
    if (active === undefined || (active.id === this.#issuedBy && bundle === this.#bundle)) return;
    if (active.id !== this.#issuedBy) await this.#issue(active);
    this.#bundle = bundle;
    this.#tell();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  #tell(): void {
    const { current } = this;
    if (current !== undefined) this.#options.onChange(current);
  }

  async #issue(authority: Authority): Promise<void> {
    const { name, alternativeNames, policy, clock, random } = this.#options;
    const nowMs = clock.wallTimeMs();
    const notAfterMs = leafExpiryMs(authority, nowMs, policy);
    const request = { identity: { role: 'operator', name }, alternativeNames, nowMs, notAfterMs } as const;
    this.#identity = await issueIdentity(authority, request, random);
    this.#issuedBy = authority.id;
    this.#timer?.cancel();
    if (this.#stopped) return;
    this.#timer = clock.after(renewalMs(nowMs, notAfterMs) - nowMs, () => void this.#renew());
  }

  async #renew(): Promise<void> {
    const active = activeAuthority(this.#authorities);
    if (active === undefined || this.#stopped) return;
    try {
      await this.#issue(active);
      this.#tell();
    } catch (error) {
      this.#options.log.error({ error: errorMessage(error) }, 'cannot renew the own certificate');
    }
  }
}
