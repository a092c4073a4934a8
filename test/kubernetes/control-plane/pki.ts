import { generateKeyPairSync } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Certificate, TestAuthority } from '../../support/certificates.ts';

/** What a control plane on 127.0.0.1 needs to be talked to. */
export interface Pki {
  /** PEM. */
  ca: string;
  admin: Certificate;
  controllerManager: Certificate;
}

/** Makes the certificates of a control plane, and puts those that its programs read into `directory`. */
export async function makePki(directory: string): Promise<Pki> {
  const authority = await TestAuthority.create();
  try {
    const save = (name: string, pem: string) => writeFile(join(directory, name), pem, { mode: 0o600 });
    const apiServer = await authority.issueSubject('/CN=kube-apiserver');
    await save('ca.crt', authority.ca);
    await save('apiserver.crt', apiServer.cert);
    await save('apiserver.key', apiServer.key);
    const serviceAccounts = generateKeyPairSync('ec', {
      namedCurve: 'prime256v1',
      privateKeyEncoding: { type: 'sec1', format: 'pem' },
      publicKeyEncoding: { type: 'spki', format: 'pem' },
    });
    await save('sa.key', serviceAccounts.privateKey);
    await save('sa.pub', serviceAccounts.publicKey);
    return {
      ca: authority.ca,
      admin: await authority.issueSubject('/O=system:masters/CN=admin'),
      controllerManager: await authority.issueSubject('/CN=system:kube-controller-manager'),
    };
  } finally {
    await authority.remove();
  }
}
