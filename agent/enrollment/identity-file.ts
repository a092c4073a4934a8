/**
 * The key and certificate of this node as the operator issued it.
 *
 * Format: `identity.pem` in a folder that is root's alone: the private key (PKCS #8, PEM), then the certificate (PEM).
 * Both are in one file, which is replaced as a whole, so that they always belong together: after a crash it is the one
 * before or the new one. A file that cannot be read as that is worth nothing; another certificate is asked for.
 */
import { X509Certificate } from 'node:crypto';
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';
import { systemErrorCode } from '../../common/errors.ts';
import { identityOfSubject } from '../../common/peer-identity.ts';

const fileName = 'identity.pem';

export interface NodeIdentity {
  /** PEM. */
  readonly key: string;
  readonly cert: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** Undefined if there is none that is any good for this node. */
export async function loadIdentity(directory: string, node: string): Promise<NodeIdentity | undefined> {
  let text: string;
  try {
    text = await readFile(join(directory, fileName), 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
  const [key, cert] = splitPem(text);
  try {
    return key === undefined || cert === undefined ? undefined : checkIdentity(key, cert, node);
  } catch {
    return undefined;
  }
}

export async function saveIdentity(directory: string, { key, cert }: NodeIdentity): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const fresh = join(directory, `${fileName}.new`);
  const file = await open(fresh, 'w', 0o600);
  try {
    await file.writeFile(`${key.trim()}\n${cert.trim()}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(fresh, join(directory, fileName));
}

/** @throws Error if they do not belong together, or are not this node's */
export function checkIdentity(key: string, cert: string, node: string): NodeIdentity {
  createSecureContext({ key, cert });
  const { subject, validFromDate, validToDate } = new X509Certificate(cert);
  const identity = identityOfSubject(fieldsOf(subject));
  if (identity?.role !== 'node' || identity.name !== node) {
    const found = identity === undefined ? subject : `${identity.role} ${identity.name}`;
    throw new Error(`the certificate is of ${found}, not of node ${node}`);
  }
  return { key, cert, notBeforeMs: validFromDate.getTime(), notAfterMs: validToDate.getTime() };
}

/** Whether one of the authorities of the bundle (PEM) has issued the certificate. */
export function isIssuedBy(cert: string, bundle: string): boolean {
  const certificate = new X509Certificate(cert);
  return splitPem(bundle).some((pem) => {
    try {
      const authority = new X509Certificate(pem);
      return certificate.checkIssued(authority) && certificate.verify(authority.publicKey);
    } catch {
      return false;
    }
  });
}

/** "O=…\nCN=…" as Node writes a subject. */
function fieldsOf(subject: string): { O?: string; CN?: string } {
  return Object.fromEntries(
    subject.split('\n').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
}

function splitPem(text: string): string[] {
  return text.match(/-----BEGIN [A-Z ]+-----[^-]+-----END [A-Z ]+-----/g) ?? [];
}
