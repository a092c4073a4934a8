/** Its own module, loaded when a certificate is needed: the library takes memory that most runs of an agent never need. */

// The library's decorators need it, before anything else of it is loaded.
import 'reflect-metadata';
import { PemConverter, Pkcs10CertificateRequestGenerator } from '@peculiar/x509';
import { subjectOfIdentity } from '../../common/peer-identity.ts';

export interface CertificateRequest {
  /** PKCS #8, PEM. */
  readonly key: string;
  /** PKCS #10, PEM. */
  readonly request: string;
}

/** A new key, and a request for a certificate of it. */
export async function makeCertificateRequest(node: string): Promise<CertificateRequest> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256' };
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const { O: organization, CN: name } = subjectOfIdentity({ role: 'node', name: node });
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: [{ O: [organization] }, { CN: [name] }],
    keys,
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
  });
  const exported = await crypto.subtle.exportKey('pkcs8', keys.privateKey);
  return { key: `${PemConverter.encode(exported, PemConverter.PrivateKeyTag)}\n`, request: request.toString('pem') };
}
