import type { AgentPod, TokenReview } from '../resources/platform-kinds.ts';

/** Which pods may have a certificate of their node. */
export interface EnrollmentRules {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly audience: string;
}

/** What a token proves, or why it proves nothing. */
export type TokenVerdict =
  | { readonly ok: true; readonly podName: string; readonly podUid: string }
  | { readonly ok: false; readonly reason: string };

export type PodVerdict =
  | { readonly ok: true; readonly node: string; readonly addresses: readonly string[] }
  | { readonly ok: false; readonly reason: string };

/** Set by the API server for tokens that are bound to a pod. */
const podNameKey = 'authentication.kubernetes.io/pod-name';
const podUidKey = 'authentication.kubernetes.io/pod-uid';

/** Which pod a reviewed token is bound to. Pure. */
export function judgeToken(review: TokenReview['status'], rules: EnrollmentRules): TokenVerdict {
  const refuse = (reason: string) => ({ ok: false, reason }) as const;
  if (review?.authenticated !== true) return refuse('the token is not valid');
  // An API server that knows nothing of audiences leaves them out, and has not checked any.
  if (!review.audiences?.includes(rules.audience)) return refuse(`the token is not for the audience ${rules.audience}`);
  const expected = `system:serviceaccount:${rules.namespace}:${rules.serviceAccount}`;
  const { username = '', extra = {} } = review.user ?? {};
  if (username !== expected) return refuse(`the token is of ${username}, not of ${expected}`);
  const [podName, ...moreNames] = extra[podNameKey] ?? [];
  const [podUid, ...moreUids] = extra[podUidKey] ?? [];
  if (!podName || !podUid || moreNames.length > 0 || moreUids.length > 0) {
    return refuse('the token is not bound to a pod');
  }
  return { ok: true, podName, podUid };
}

/** Whether the pod is what the token says, and on which node it runs. Pure. */
export function judgePod(
  pod: AgentPod | undefined,
  token: { readonly podName: string; readonly podUid: string },
  rules: EnrollmentRules,
): PodVerdict {
  const refuse = (reason: string) => ({ ok: false, reason: `pod ${token.podName} ${reason}` }) as const;
  if (pod === undefined) return refuse('is not there');
  if (pod.metadata.uid !== token.podUid) return refuse('is another than the token is for');
  if (pod.metadata.namespace !== rules.namespace) return refuse(`is not in namespace ${rules.namespace}`);
  const { nodeName, serviceAccountName } = pod.spec ?? {};
  if (serviceAccountName !== rules.serviceAccount) return refuse(`is not of service account ${rules.serviceAccount}`);
  const { phase, hostIP, podIP, podIPs = [] } = pod.status ?? {};
  if (phase === 'Succeeded' || phase === 'Failed') return refuse(`has ended (${phase})`);
  if (nodeName === undefined || nodeName === '') return refuse('has not been scheduled to a node');
  const addresses = [hostIP, podIP, ...podIPs.map(({ ip }) => ip)].filter((address) => address !== undefined);
  return { ok: true, node: nodeName, addresses: [...new Set(addresses)] };
}
