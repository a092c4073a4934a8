import { describe, expect, test } from 'vitest';
import { judgePod, judgeToken } from '../../../operator/certificates/admit-pod.ts';
import type { AgentPod, TokenReview } from '../../../operator/resources/platform-kinds.ts';

const rules = { namespace: 'understudy', serviceAccount: 'understudy-agent', audience: 'understudy' };
const review: NonNullable<TokenReview['status']> = {
  authenticated: true,
  audiences: ['understudy'],
  user: {
    username: 'system:serviceaccount:understudy:understudy-agent',
    extra: {
      'authentication.kubernetes.io/pod-name': ['agent-x'],
      'authentication.kubernetes.io/pod-uid': ['uid-x'],
    },
  },
};
const token = { podName: 'agent-x', podUid: 'uid-x' };
const pod: AgentPod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'agent-x', namespace: 'understudy', uid: 'uid-x', resourceVersion: '1' },
  spec: { nodeName: 'node-a', serviceAccountName: 'understudy-agent' },
  status: { phase: 'Running', hostIP: '10.0.0.1', podIP: '10.0.0.1', podIPs: [{ ip: '10.0.0.1' }, { ip: 'fd00::1' }] },
};

test('a token of an agent gives its pod, and the pod its node with its addresses', () => {
  expect(judgeToken(review, rules)).toEqual({ ok: true, ...token });
  expect(judgePod(pod, token, rules)).toEqual({ ok: true, node: 'node-a', addresses: ['10.0.0.1', 'fd00::1'] });
});

describe('a token is refused', () => {
  const user = (changes: object) => ({ ...review, user: { ...review.user, ...changes } });
  test.each([
    ['that the API server did not accept', { ...review, authenticated: false }, 'the token is not valid'],
    ['without a review', undefined, 'the token is not valid'],
    ['for another audience', { ...review, audiences: ['https://kubernetes'] }, 'not for the audience'],
    ['whose audience nobody checked', { authenticated: true, user: review.user ?? {} }, 'not for the audience'],
    [
      'of another account',
      user({ username: 'system:serviceaccount:understudy:default' }),
      'is of system:serviceaccount',
    ],
    ['of an account of that name elsewhere', user({ username: 'system:serviceaccount:x:understudy-agent' }), 'is of'],
    ['that is bound to nothing', user({ extra: {} }), 'not bound to a pod'],
    [
      'that is bound to a pod without a uid',
      user({ extra: { 'authentication.kubernetes.io/pod-name': ['agent-x'] } }),
      'not bound to a pod',
    ],
  ])('%s', (_, status, reason) => {
    expect(judgeToken(status, rules)).toEqual({ ok: false, reason: expect.stringContaining(reason) });
  });
});

describe('a pod is refused', () => {
  test.each([
    ['that is gone', undefined, 'is not there'],
    ['that has the name of the one that was meant', { ...pod, metadata: { ...pod.metadata, uid: 'uid-y' } }, 'another'],
    ['of another account', { ...pod, spec: { ...pod.spec, serviceAccountName: 'default' } }, 'service account'],
    ['that has no node', { ...pod, spec: { serviceAccountName: 'understudy-agent' } }, 'scheduled'],
    ['that has ended', { ...pod, status: { phase: 'Failed' } }, 'has ended'],
    ['of another namespace', { ...pod, metadata: { ...pod.metadata, namespace: 'x' } }, 'namespace'],
  ])('%s', (_, found, reason) => {
    expect(judgePod(found, token, rules)).toEqual({ ok: false, reason: expect.stringContaining(reason) });
  });
});
