/**
 * The authorities that sign the certificates of Understudy, and how one follows another. Pure.
 *
 * Invariants
 * - One authority signs (`active`), or none, before the first is made.
 * - What signs has been published for `publishMs`, except where there was nothing that could have signed instead: then
 *   waiting would help nobody.
 * - An authority stays published until no certificate that it signed is valid any more.
 */

export interface Authority {
  /** Unlike that of any other. */
  readonly id: string;
  /** PEM. */
  readonly certificate: string;
  /** PKCS #8, PEM. */
  readonly key: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly state: /** To be published; signs when everybody can have heard of it. */
    | 'next'
    | 'active'
    /** Signs nothing more, but what it signed is still used. */
    | 'retired';
  /** Of one that is next: since when it is known to be published. Of one that is retired: since when it signs nothing. */
  readonly sinceMs?: number | undefined;
}

export interface AuthorityPolicy {
  /** How long an authority is valid. */
  readonly authorityLifeMs: number;
  /** How long a certificate is valid at most. */
  readonly leafLifeMs: number;
  /** How long it takes at most until everybody trusts an authority that was published. */
  readonly publishMs: number;
}

/** Clocks of nodes differ: certificates are valid a little earlier, and count a little longer, than they say. */
export const skewMs = 5 * 60_000;

export interface AuthorityPlan {
  readonly authorities: readonly Authority[];
  /** The state of an authority that has to be made and added, if one is missing. */
  readonly missing: 'active' | 'next' | undefined;
}

/** What is to become of the authorities now. @param rotate somebody asked for a new one */
export function planAuthorities(
  authorities: readonly Authority[],
  nowMs: number,
  policy: AuthorityPolicy,
  rotate: boolean,
): AuthorityPlan {
  const usable = authorities.filter((authority) => !isOver(authority, nowMs, policy));
  const active = usable.find(({ state }) => state === 'active');
  const next = usable.find(({ state }) => state === 'next');
  if (active === undefined) {
    if (next === undefined) return { authorities: usable, missing: 'active' };
    return {
      authorities: usable.map((each) => (each === next ? withState(each, 'active') : each)),
      missing: undefined,
    };
  }
  if (next === undefined) {
    const ages = nowMs >= active.notBeforeMs + ((active.notAfterMs - active.notBeforeMs) * 2) / 3;
    return { authorities: usable, missing: ages || rotate ? 'next' : undefined };
  }
  if (next.sinceMs === undefined || nowMs - next.sinceMs < policy.publishMs) {
    return { authorities: usable, missing: undefined };
  }
  const followed = usable.map((each) => {
    if (each === next) return withState(each, 'active');
    return each === active ? withState(each, 'retired', nowMs) : each;
  });
  return { authorities: followed, missing: undefined };
}

/** Notes that those that are next are published now, if nobody has noted it before. */
export function notePublished(authorities: readonly Authority[], nowMs: number): readonly Authority[] {
  const isNews = ({ state, sinceMs }: Authority) => state === 'next' && sinceMs === undefined;
  if (!authorities.some(isNews)) return authorities;
  return authorities.map((each) => (isNews(each) ? withState(each, 'next', nowMs) : each));
}

/** Expired, or retired for so long that nothing it signed is valid any more. */
function isOver({ state, sinceMs, notAfterMs }: Authority, nowMs: number, { leafLifeMs }: AuthorityPolicy): boolean {
  if (nowMs >= notAfterMs) return true;
  return state === 'retired' && sinceMs !== undefined && nowMs >= sinceMs + leafLifeMs + skewMs;
}

function withState(authority: Authority, state: Authority['state'], sinceMs?: number): Authority {
  return { ...authority, state, sinceMs };
}

export function activeAuthority(authorities: readonly Authority[]): Authority | undefined {
  return authorities.find(({ state }) => state === 'active');
}

/** All certificates to be trusted, PEM, the one that signs first. */
export function bundleOf(authorities: readonly Authority[]): string {
  const rank = { active: 0, next: 1, retired: 2 };
  return authorities
    .toSorted((a, b) => rank[a.state] - rank[b.state])
    .map(({ certificate }) => `${certificate.trim()}\n`)
    .join('');
}

/** When a certificate that is issued now expires: it never outlives the authority. */
export function leafExpiryMs(authority: Authority, nowMs: number, { leafLifeMs }: AuthorityPolicy): number {
  return Math.min(nowMs + leafLifeMs, authority.notAfterMs);
}

/** When a certificate is to be replaced: after two thirds of its life. */
export function renewalMs(notBeforeMs: number, notAfterMs: number): number {
  return notBeforeMs + ((notAfterMs - notBeforeMs) * 2) / 3;
}
