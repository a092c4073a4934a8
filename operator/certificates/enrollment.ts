import type { Clock } from '../../common/clock.ts';
import { UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import { agentPods, type TokenReview, tokenReviews } from '../resources/platform-kinds.ts';
import { type EnrollmentRules, judgePod, judgeToken } from './admit-pod.ts';
import { type Authority, type AuthorityPolicy, activeAuthority, leafExpiryMs } from './authorities.ts';
import { issueCertificate, keyOfRequest, type RandomBytes } from './x509.ts';

export interface EnrollmentOptions {
  readonly api: KubeApi;
  readonly rules: EnrollmentRules;
  readonly policy: AuthorityPolicy;
  readonly authorities: () => readonly Authority[];
  readonly clock: Clock;
  readonly random: RandomBytes;
  readonly log: Log;
}

/** Gives the agents their certificates; see docs/decisions/agent-enrollment.md. */
export class Enrollment {
  readonly #options: EnrollmentOptions;

  constructor(options: EnrollmentOptions) {
    this.#options = options;
  }

  /**
   * A certificate for the node on which the pod runs that the token is bound to, in PEM.
   * @param request PKCS #10, PEM
   * @throws UnderstudyError Refused as Conflict when the token gives no right to one; Invalid for the request itself;
   * NotReady while there is no authority; or what the API server answers.
   */
  async enroll(token: string, request: string): Promise<string> {
    const { policy, authorities, clock, random, log } = this.#options;
    const publicKey = await keyOfRequest(request);
    const authority = activeAuthority(authorities());
    if (authority === undefined) throw new UnderstudyError('NotReady', 'there is no authority yet');
    const { node, addresses } = await this.#identify(token);
    const nowMs = clock.wallTimeMs();
    const certificate = await issueCertificate(
      authority,
      {
        identity: { role: 'node', name: node },
        publicKey,
        alternativeNames: [node, ...addresses],
        nowMs,
        notAfterMs: leafExpiryMs(authority, nowMs, policy),
      },
      random,
    );
    log.info({ node, authority: authority.id }, 'issued a certificate');
    return certificate;
  }

  async #identify(token: string): Promise<{ readonly node: string; readonly addresses: readonly string[] }> {
    const { api, rules } = this.#options;
    const reviewed = judgeToken((await this.#review(token)).status, rules);
    if (!reviewed.ok) throw refused(reviewed.reason);
    const pod = await api.get(agentPods, { namespace: rules.namespace, name: reviewed.podName });
    const verdict = judgePod(pod, reviewed, rules);
    if (!verdict.ok) throw refused(verdict.reason);
    return verdict;
  }

  async #review(token: string): Promise<TokenReview> {
    const { api, rules } = this.#options;
    return await api.create(tokenReviews, {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenReview',
      // Nothing is stored under a name.
      metadata: { name: '' },
      spec: { token, audiences: [rules.audience] },
    });
  }
}

function refused(reason: string): UnderstudyError {
  return new UnderstudyError('Conflict', `no certificate: ${reason}`);
}

/** Whether somebody asked for a certificate that is not his, as against anything that did not work. */
export function isRefusal(error: unknown): boolean {
  return error instanceof UnderstudyError && error.code === 'Conflict' && error.message.startsWith('no certificate: ');
}
