/**
 * Who is at the other end of a mutually authenticated TLS connection. A certificate says it in its subject: O is
 * "understudy:" and the role, CN the name, as in `O=understudy:node, CN=node-a`.
 */
export interface PeerIdentity {
  /** node: an agent, for its mirror links. operator: may drive every agent. backup: may read snapshots over NBD. */
  readonly role: PeerRole;
  /** The node's name for a node. */
  readonly name: string;
}

export type PeerRole = (typeof peerRoles)[number];

const peerRoles = ['node', 'operator', 'backup'] as const;

const organizationPrefix = 'understudy:';

/** The identity in the subject of a certificate whose chain has been verified, or undefined if it names none. */
export function identityOfSubject(subject: { readonly O?: unknown; readonly CN?: unknown }): PeerIdentity | undefined {
  const { O: organization, CN: name } = subject;
  if (typeof organization !== 'string' || typeof name !== 'string' || name === '') return undefined;
  const role = organization.startsWith(organizationPrefix) ? organization.slice(organizationPrefix.length) : '';
  const known = peerRoles.find((candidate) => candidate === role);
  return known === undefined ? undefined : { role: known, name };
}

/** The subject of a certificate for this identity. */
export function subjectOfIdentity({ role, name }: PeerIdentity): { readonly O: string; readonly CN: string } {
  return { O: `${organizationPrefix}${role}`, CN: name };
}
