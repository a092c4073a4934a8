import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A key with its certificate, both PEM. */
export interface Identity {
  cert: string;
  key: string;
}

/** What a control plane on 127.0.0.1 needs to be talked to. */
export interface Pki {
  ca: string;
  admin: Identity;
  controllerManager: Identity;
}

/** Makes, with openssl, an authority and certificates that live for a day, as files `<name>.crt` and `<name>.key`. */
export async function makePki(directory: string): Promise<Pki> {
  const ca = await certificate(directory, 'ca', '/CN=understudy-test-ca', [
    'basicConstraints=critical,CA:TRUE',
    'keyUsage=critical,digitalSignature,keyCertSign',
  ]);
  const client = 'extendedKeyUsage=clientAuth';
  await issue(directory, 'apiserver', '/CN=kube-apiserver', [
    'extendedKeyUsage=serverAuth',
    'subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc',
  ]);
  const serviceAccounts = generateKeyPairSync('ec', {
    namedCurve: 'prime256v1',
    privateKeyEncoding: { type: 'sec1', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  await writeFile(join(directory, 'sa.key'), serviceAccounts.privateKey, { mode: 0o600 });
  await writeFile(join(directory, 'sa.pub'), serviceAccounts.publicKey);
  return {
    ca: ca.cert,
    admin: await issue(directory, 'admin', '/O=system:masters/CN=admin', [client]),
    controllerManager: await issue(directory, 'controller-manager', '/CN=system:kube-controller-manager', [client]),
  };
}

function issue(directory: string, name: string, subject: string, extensions: string[]): Promise<Identity> {
  const authority = ['-CA', join(directory, 'ca.crt'), '-CAkey', join(directory, 'ca.key')];
  return certificate(directory, name, subject, ['basicConstraints=CA:FALSE', ...extensions], authority);
}

async function certificate(
  directory: string,
  name: string,
  subject: string,
  extensions: string[],
  authority: string[] = [],
): Promise<Identity> {
  const [key, cert] = [join(directory, `${name}.key`), join(directory, `${name}.crt`)];
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key];
  const added = extensions.flatMap((extension) => ['-addext', extension]);
  // Without a configuration of the machine's, which may add extensions of its own.
  const request = ['req', '-x509', '-config', '/dev/null', '-days', '1', '-subj', subject, '-out', cert];
  await run('openssl', [...request, ...newKey, ...added, ...authority]);
  return { cert: await readFile(cert, 'utf8'), key: await readFile(key, 'utf8') };
}
