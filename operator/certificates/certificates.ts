import type { Address } from '../../common/address.ts';
import type { Clock } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import type { EnrollmentRules } from './admit-pod.ts';
import { type Authority, type AuthorityPolicy, activeAuthority } from './authorities.ts';
import { AuthorityKeeper } from './authority-keeper.ts';
import { Enrollment } from './enrollment.ts';
import { EnrollmentServer } from './enrollment-server.ts';
import { OwnIdentity, type OwnTls } from './own-identity.ts';
import type { RandomBytes } from './x509.ts';

/** Until the endpoint is tried again whose port was taken. */
const retryMs = 5_000;

export interface CertificatesOptions {
  readonly api: KubeApi;
  readonly namespace: string;
  readonly secret: string;
  readonly configMap: string;
  readonly policy: AuthorityPolicy;
  /** Of this replica. */
  readonly identity: string;
  readonly enrollment:
    | { readonly listen: Address; readonly rules: EnrollmentRules; readonly names: readonly string[] }
    | undefined;
  readonly clock: Clock;
  readonly random: RandomBytes;
  readonly log: Log;
  readonly onTls: (tls: OwnTls) => void;
  readonly onAuthority: (expiresAtMs: number) => void;
  readonly onEnrolled: (result: 'issued' | 'refused' | 'failed') => void;
}

/**
 * What a replica has to do with certificates: it has one of its own, and gives the agents theirs, as soon as there is an
 * authority; while it leads, it also keeps the authorities.
 */
export class Certificates {
  readonly #options: CertificatesOptions;
  readonly #keeper: AuthorityKeeper;
  readonly #own: OwnIdentity;
  #server: EnrollmentServer | undefined;
  #stopped = false;

  constructor(options: CertificatesOptions) {
    this.#options = options;
    const { api, namespace, secret, configMap, policy, identity, enrollment, clock, random } = options;
    const log = options.log.child({ component: 'certificates' });
    this.#own = new OwnIdentity({
      name: identity,
      alternativeNames: enrollment?.names ?? [],
      policy,
      clock,
      random,
      log,
      onChange: (tls) => void this.#renewed(tls),
    });
    this.#keeper = new AuthorityKeeper({
      api,
      namespace,
      secret,
      configMap,
      policy,
      clock,
      random,
      log,
      onChange: (authorities) => this.#use(authorities),
    });
  }

  start(): void {
    this.#keeper.start();
  }

  /** Why this replica cannot do its part, or undefined. */
  get trouble(): string | undefined {
    if (this.#own.current === undefined) return 'there is no authority for certificates yet';
    if (this.#options.enrollment === undefined || this.#server !== undefined) return undefined;
    return 'agents cannot get certificates here yet';
  }

  /** Where agents get certificates, once they do. */
  get enrollmentAddress(): Address | undefined {
    return this.#server?.address;
  }

  /** The duty of the leader. */
  manage(api: KubeApi): { stop(): Promise<void> } {
    return this.#keeper.manage(api);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#own.stop();
    await this.#keeper.stop();
    await this.#server?.stop();
  }

  async #use(authorities: readonly Authority[]): Promise<void> {
    await this.#own.use(authorities);
    this.#options.onAuthority(activeAuthority(authorities)?.notAfterMs ?? 0);
  }

  async #renewed(tls: OwnTls): Promise<void> {
    this.#options.onTls(tls);
    if (this.#server !== undefined) this.#server.renew(tls);
    else await this.#serve(tls);
  }

  async #retry(): Promise<void> {
    const { current } = this.#own;
    if (this.#server === undefined && current !== undefined) await this.#serve(current);
  }

  async #serve(certificate: OwnTls): Promise<void> {
    const { api, policy, enrollment, clock, random, log, onEnrolled } = this.#options;
    if (enrollment === undefined || this.#stopped) return;
    const service = new Enrollment({
      api,
      rules: enrollment.rules,
      policy,
      authorities: () => this.#keeper.authorities,
      clock,
      random,
      log,
    });
    try {
      this.#server = await EnrollmentServer.start({
        listen: enrollment.listen,
        enrollment: service,
        certificate,
        log,
        onEnrolled,
      });
      log.info({ address: this.#server.address }, 'agents can get certificates');
    } catch (error) {
      log.error({ error: errorMessage(error) }, 'agents cannot get certificates; it is tried again');
      clock.after(retryMs, () => void this.#retry());
    }
  }
}
