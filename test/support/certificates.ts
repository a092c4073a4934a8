import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type PeerIdentity, subjectOfIdentity } from '../../common/peer-identity.ts';

const run = promisify(execFile);

/** PEM texts. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** An authority for a test, made with openssl, and what it issues: certificates for servers and clients on loopback. */
export class TestAuthority {
  /** Its own certificate, PEM. */
  readonly ca: string;
  readonly #directory: string;

  private constructor(directory: string, ca: string) {
    this.#directory = directory;
    this.ca = ca;
  }

  static async create(): Promise<TestAuthority> {
    const directory = await mkdtemp(join(tmpdir(), 'understudy-authority-'));
    const { cert } = await makeCertificate(directory, 'ca', '/CN=Understudy test authority', [
      '-addext',
      'basicConstraints=critical,CA:TRUE',
      '-addext',
      'keyUsage=critical,keyCertSign',
    ]);
    return new TestAuthority(directory, cert);
  }

  issue(identity: PeerIdentity): Promise<Certificate> {
    const { O: organization, CN: name } = subjectOfIdentity(identity);
    return this.issueSubject(`/O=${organization}/CN=${name}`);
  }

  /** For subjects that name no identity: openssl's notation, e.g. "/CN=somebody". */
  issueSubject(subject: string): Promise<Certificate> {
    return makeCertificate(this.#directory, 'leaf', subject, [
      ...['-CA', join(this.#directory, 'ca.crt'), '-CAkey', join(this.#directory, 'ca.key')],
      ...['-addext', 'basicConstraints=CA:FALSE'],
      ...['-addext', 'extendedKeyUsage=serverAuth,clientAuth'],
      ...['-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'],
    ]);
  }

  async remove(): Promise<void> {
    await rm(this.#directory, { recursive: true });
  }
}

async function makeCertificate(
  directory: string,
  name: string,
  subject: string,
  options: string[],
): Promise<Certificate> {
  const [cert, key] = [join(directory, `${name}.crt`), join(directory, `${name}.key`)];
  // Without a configuration of the machine's, which may add extensions of its own.
  const request = ['req', '-x509', '-config', '/dev/null', '-days', '1', '-subj', subject, '-out', cert];
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key];
  await run('openssl', [...request, ...newKey, ...options]);
  return { cert: await readFile(cert, 'utf8'), key: await readFile(key, 'utf8') };
}
