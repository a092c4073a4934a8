import { readFile } from 'node:fs/promises';
import { type Clock, delay, type Timer } from '../../common/clock.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { TlsMaterial } from '../api/listener.ts';
import type { EnrollmentConfig } from '../config.ts';
import { requestCertificate } from './enrollment-client.ts';
import { checkIdentity, isIssuedBy, loadIdentity, type NodeIdentity, saveIdentity } from './identity-file.ts';

export interface EnrolledCertificatesOptions {
  readonly config: EnrollmentConfig;
  readonly node: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly onRenewal: (result: 'issued' | 'failed') => void;
}

/** The bundle of authorities is looked at this often. */
const calmMs = 60_000;
const firstRetryMs = 1_000;

/**
 * The certificate of this node as the operator issues it; see docs/decisions/agent-enrollment.md.
 *
 * What is on the disk is used at once, even if it has expired: volumes do not wait for a control plane. Without any, the
 * operator is waited for. It is renewed after two thirds of its life, and when none of the authorities in the bundle has
 * issued it.
 */
export class EnrolledCertificates {
  readonly #options: EnrolledCertificatesOptions;
  #identity: NodeIdentity | undefined;
  #bundle: string | undefined;
  #failures = 0;

  private constructor(options: EnrolledCertificatesOptions) {
    this.#options = options;
  }

  /** Resolves when there is a certificate, however long that takes. */
  static async open(options: EnrolledCertificatesOptions): Promise<EnrolledCertificates> {
    const { config, node, clock, log } = options;
    const certificates = new EnrolledCertificates(options);
    certificates.#identity = await loadIdentity(config.directory, node);
    if (certificates.#identity === undefined) log.info({ url: config.url }, 'asking the operator for a certificate');
    for (;;) {
      await certificates.#readBundle();
      if (certificates.#identity === undefined) await certificates.#renewIfDue();
      if (certificates.#identity !== undefined && certificates.#bundle !== undefined) return certificates;
      await delay(clock, certificates.#pauseMs());
    }
  }

  get material(): TlsMaterial {
    if (this.#identity === undefined || this.#bundle === undefined) {
      throw new UnderstudyError('NotReady', 'there is no certificate yet');
    }
    const { cert, key } = this.#identity;
    return { ca: this.#bundle, cert, key };
  }

  /** Calls back whenever the certificate or the bundle is another, until it is cancelled. */
  watch(onChange: (material: TlsMaterial) => void): Timer {
    const stopping = new AbortController();
    void this.#follow(stopping.signal, onChange);
    return { cancel: () => stopping.abort() };
  }

  async #follow(signal: AbortSignal, onChange: (material: TlsMaterial) => void): Promise<void> {
    let told = this.material;
    while (!signal.aborted) {
      await this.#readBundle();
      await this.#renewIfDue();
      if (signal.aborted) return;
      const { material } = this;
      if (material.ca !== told.ca || material.cert !== told.cert) {
        told = material;
        onChange(material);
      }
      await delay(this.#options.clock, this.#pauseMs(), signal).catch(() => {});
    }
  }

  async #readBundle(): Promise<void> {
    const { config, log } = this.#options;
    try {
      const text = await readFile(config.caFile, 'utf8');
      if (!text.includes('-----BEGIN CERTIFICATE-----')) throw new Error('it has no certificate');
      this.#bundle = text;
    } catch (error) {
      const where = `${config.caFile} (tls.enrollment.caFile)`;
      log.warn({ error: errorMessage(error) }, `cannot read the authorities in ${where}`);
    }
  }

  async #renewIfDue(): Promise<void> {
    if (!this.#isDue() || this.#bundle === undefined) return;
    const { log, onRenewal } = this.#options;
    try {
      this.#identity = await this.#enroll(this.#bundle);
      this.#failures = 0;
      onRenewal('issued');
      log.info({ expires: new Date(this.#identity.notAfterMs).toISOString() }, 'got a certificate');
    } catch (error) {
      this.#failures += 1;
      onRenewal('failed');
      log.warn({ error: errorMessage(error) }, 'got no certificate; it is tried again');
    }
  }

  #isDue(): boolean {
    if (this.#identity === undefined) return true;
    if (this.#bundle !== undefined && !isIssuedBy(this.#identity.cert, this.#bundle)) return true;
    return this.#options.clock.wallTimeMs() >= renewalMs(this.#identity);
  }

  async #enroll(ca: string): Promise<NodeIdentity> {
    const { config, node, clock } = this.#options;
    const { makeCertificateRequest } = await import('./certificate-request.ts');
    const token = (await readFile(config.tokenFile, 'utf8')).trim();
    const { key, request } = await makeCertificateRequest(node);
    const cert = await requestCertificate({ url: config.url, ca, token, request, clock });
    const identity = checkIdentity(key, cert, node);
    await saveIdentity(config.directory, identity);
    return identity;
  }

  /** Until the next look: longer with each failure, never long past the time of a renewal. */
  #pauseMs(): number {
    if (this.#identity === undefined || this.#bundle === undefined || this.#failures > 0) {
      return Math.min(calmMs, firstRetryMs * 2 ** Math.min(this.#failures, 6));
    }
    const untilDueMs = renewalMs(this.#identity) - this.#options.clock.wallTimeMs();
    return Math.max(100, Math.min(calmMs, untilDueMs));
  }
}

/** After two thirds of its life. */
function renewalMs({ notBeforeMs, notAfterMs }: NodeIdentity): number {
  return notBeforeMs + ((notAfterMs - notBeforeMs) * 2) / 3;
}
