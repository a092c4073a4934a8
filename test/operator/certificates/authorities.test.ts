import { expect, test } from 'vitest';
import {
  type Authority,
  type AuthorityPolicy,
  activeAuthority,
  bundleOf,
  leafExpiryMs,
  notePublished,
  planAuthorities,
  skewMs,
} from '../../../operator/certificates/authorities.ts';

const hour = 3_600_000;
const day = 24 * hour;
const policy: AuthorityPolicy = { authorityLifeMs: 365 * day, leafLifeMs: 7 * day, publishMs: hour };

function authority(id: string, changes: Partial<Authority> = {}): Authority {
  return {
    id,
    certificate: `cert ${id}`,
    key: `key ${id}`,
    notBeforeMs: 0,
    notAfterMs: 365 * day,
    state: 'active',
    ...changes,
  };
}

/** Carries plans out as the keeper does, with the ConfigMap always written. */
function live(from: number, until: number, step: number, rotateAt?: number) {
  let authorities: readonly Authority[] = [];
  let made = 0;
  const seen: { nowMs: number; ids: string; bundle: string }[] = [];
  for (let nowMs = from; nowMs <= until; nowMs += step) {
    const plan = planAuthorities(authorities, nowMs, policy, nowMs === rotateAt);
    authorities = plan.authorities;
    if (plan.missing !== undefined) {
      made += 1;
      const notAfterMs = nowMs + policy.authorityLifeMs;
      authorities = [...authorities, authority(`a${made}`, { state: plan.missing, notBeforeMs: nowMs, notAfterMs })];
    }
    authorities = notePublished(authorities, nowMs);
    const ids = authorities.map(({ id, state }) => `${id}:${state}`).join(' ');
    if (ids !== seen.at(-1)?.ids) seen.push({ nowMs, ids, bundle: bundleOf(authorities) });
  }
  return seen;
}

test('the first one signs at once; its successor is published, then signs, and the first stays until nothing of it is valid', () => {
  const seen = live(0, 300 * day, hour);
  expect(seen.map(({ ids }) => ids)).toEqual(['a1:active', 'a1:active a2:next', 'a1:retired a2:active', 'a2:active']);
  const [, published, signs, gone] = seen.map(({ nowMs }) => nowMs);
  expect(published).toBe(Math.ceil(((365 * 2) / 3) * 24) * hour);
  expect((signs ?? 0) - (published ?? 0)).toBe(hour);
  expect((gone ?? 0) - (signs ?? 0)).toBeGreaterThanOrEqual(policy.leafLifeMs + skewMs);
  expect(seen[1]?.bundle).toBe('cert a1\ncert a2\n');
  expect(seen[2]?.bundle).toBe('cert a2\ncert a1\n');
});

test('a rotation that somebody asks for goes the same way', () => {
  expect(live(0, 30 * day, hour, 5 * day).map(({ nowMs, ids }) => [nowMs / hour, ids])).toEqual([
    [0, 'a1:active'],
    [120, 'a1:active a2:next'],
    [121, 'a1:retired a2:active'],
    [121 + 7 * 24 + 1, 'a2:active'],
  ]);
});

test('one that was not published does not sign, however long it waits', () => {
  const waiting = [authority('a'), authority('b', { state: 'next' })];
  expect(planAuthorities(waiting, 100 * day, policy, false)).toEqual({ authorities: waiting, missing: undefined });
  expect(activeAuthority(planAuthorities(waiting, 365 * day, policy, false).authorities)?.id).not.toBe('a');
});

test('an authority that has expired signs nothing: another does at once', () => {
  expect(planAuthorities([authority('a')], 365 * day, policy, false)).toEqual({ authorities: [], missing: 'active' });
  const next = authority('b', { state: 'next', notAfterMs: 400 * day });
  const { authorities } = planAuthorities([authority('a'), next], 365 * day, policy, false);
  expect(authorities).toEqual([{ ...next, state: 'active', sinceMs: undefined }]);
});

test('no certificate outlives its authority', () => {
  expect(leafExpiryMs(authority('a'), 0, policy)).toBe(7 * day);
  expect(leafExpiryMs(authority('a'), 364 * day, policy)).toBe(365 * day);
});
