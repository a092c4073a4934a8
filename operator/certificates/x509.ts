// The library's decorators need it, before anything else of it is loaded.
import 'reflect-metadata';
import { isIP } from 'node:net';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  Pkcs10CertificateRequest,
  type PublicKey,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { UnderstudyError } from '../../common/errors.ts';
import { type PeerIdentity, subjectOfIdentity } from '../../common/peer-identity.ts';
import { type Authority, skewMs } from './authorities.ts';

const keyAlgorithm = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const signingAlgorithm = { name: 'ECDSA', hash: 'SHA-256' } as const;
const authorityName = 'understudy:authority';

/** A key with its certificate, PEM. */
export interface IssuedIdentity {
  readonly cert: string;
  readonly key: string;
}

/** Random bytes for serial numbers, injected. */
export type RandomBytes = (count: number) => Uint8Array;

export async function makeAuthority(
  state: Authority['state'],
  nowMs: number,
  lifeMs: number,
  random: RandomBytes,
): Promise<Authority> {
  const keys = await crypto.subtle.generateKey(keyAlgorithm, true, ['sign', 'verify']);
  const id = hex(random(8));
  const notBeforeMs = nowMs - skewMs;
  const notAfterMs = nowMs + lifeMs;
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(random),
    // The id tells authorities apart that would otherwise have the same name.
    name: [{ O: [authorityName] }, { CN: [id] }],
    notBefore: new Date(notBeforeMs),
    notAfter: new Date(notAfterMs),
    signingAlgorithm,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { id, certificate: pem(certificate), key: await exportKey(keys.privateKey), notBeforeMs, notAfterMs, state };
}

export interface LeafRequest {
  readonly identity: PeerIdentity;
  readonly publicKey: PublicKey | CryptoKey;
  /** DNS names and IP addresses. */
  readonly alternativeNames: readonly string[];
  readonly nowMs: number;
  readonly notAfterMs: number;
}

/** A certificate for both ends of a connection. PEM. */
export async function issueCertificate(
  authority: Authority,
  request: LeafRequest,
  random: RandomBytes,
): Promise<string> {
  const { identity, publicKey, alternativeNames, nowMs, notAfterMs } = request;
  const issuer = new X509Certificate(authority.certificate);
  const { O: organization, CN: name } = subjectOfIdentity(identity);
  const names = alternativeNames.map((value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value }) as const);
  const certificate = await X509CertificateGenerator.create({
    serialNumber: serialNumber(random),
    subject: [{ O: [organization] }, { CN: [name] }],
    issuer: issuer.subjectName.toJSON(),
    // Clocks differ; but the earlier beginning must not make up much of a short life, which renewals are reckoned from.
    notBefore: new Date(Math.max(nowMs - Math.min(skewMs, (notAfterMs - nowMs) / 10), authority.notBeforeMs)),
    notAfter: new Date(notAfterMs),
    publicKey,
    signingKey: await importKey(authority.key),
    signingAlgorithm,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
      ...(names.length === 0 ? [] : [new SubjectAlternativeNameExtension(names)]),
      await AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ],
  });
  return pem(certificate);
}

/** A new key with its certificate. */
export async function issueIdentity(
  authority: Authority,
  request: Omit<LeafRequest, 'publicKey'>,
  random: RandomBytes,
): Promise<IssuedIdentity> {
  const keys = await crypto.subtle.generateKey(keyAlgorithm, true, ['sign', 'verify']);
  const cert = await issueCertificate(authority, { ...request, publicKey: keys.publicKey }, random);
  return { cert, key: await exportKey(keys.privateKey) };
}

/**
 * The public key of a request whose sender has proved to have the private one.
 * @throws UnderstudyError Invalid
 */
export async function keyOfRequest(text: string): Promise<PublicKey> {
  let request: Pkcs10CertificateRequest;
  try {
    request = new Pkcs10CertificateRequest(text);
  } catch (cause) {
    throw new UnderstudyError('Invalid', 'request: expected a PKCS #10 certificate request in PEM', { cause });
  }
  const { algorithm } = request.publicKey;
  if (algorithm.name !== keyAlgorithm.name || Reflect.get(algorithm, 'namedCurve') !== keyAlgorithm.namedCurve) {
    throw new UnderstudyError('Invalid', `request: expected a key on the curve P-256, got ${algorithm.name}`);
  }
  if (!(await request.verify().catch(() => false))) {
    throw new UnderstudyError('Invalid', 'request: its signature does not match its key');
  }
  return request.publicKey;
}

/** Positive, and too long to be guessed or to come twice. */
function serialNumber(random: RandomBytes): string {
  const bytes = random(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return hex(bytes);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function pem(certificate: X509Certificate): string {
  return `${certificate.toString('pem')}\n`;
}

async function exportKey(key: CryptoKey): Promise<string> {
  const encoded = await crypto.subtle.exportKey('pkcs8', key);
  return `${PemConverter.encode(encoded, PemConverter.PrivateKeyTag)}\n`;
}

async function importKey(text: string): Promise<CryptoKey> {
  return await crypto.subtle.importKey('pkcs8', PemConverter.decodeFirst(text), keyAlgorithm, false, ['sign']);
}
