import { X509Certificate } from 'node:crypto';
import type { Timer } from '../common/clock.ts';
import type { AgentContext } from './agent-context.ts';
import type { TlsMaterial } from './api/listener.ts';
import type { AgentMetrics } from './api/metrics.ts';
import type { AgentConfig } from './config.ts';
import { EnrolledCertificates } from './enrollment/enrolled-certificates.ts';
import { readTlsFiles, watchTlsFiles } from './tls-files.ts';

/** The certificates of this node, wherever they come from. */
export interface CertificateSource {
  /** Undefined where the configuration says insecure. */
  readonly material: TlsMaterial | undefined;
  /** Calls back with new ones until it is cancelled. */
  watch(onChange: (material: TlsMaterial) => void): Timer;
}

/**
 * Opens what the configuration says: files, or the operator's enrollment, which is waited for the first time.
 * @throws UnderstudyError Invalid for what is wrong with the files
 */
export async function openCertificates(
  { tls, node }: AgentConfig,
  { clock, log }: Pick<AgentContext, 'clock' | 'log'>,
  metrics: AgentMetrics,
): Promise<CertificateSource> {
  const ownLog = log.child({ component: 'certificates' });
  if ('enrollment' in tls) {
    const onRenewal = (result: 'issued' | 'failed') => metrics.renewed(result);
    const source = await EnrolledCertificates.open({ config: tls.enrollment, node, clock, log: ownLog, onRenewal });
    return observed(source, metrics);
  }
  const material = await readTlsFiles(tls);
  const watch: CertificateSource['watch'] = (onChange) =>
    watchTlsFiles(tls, material, { clock, log: ownLog, onChange });
  return observed({ material, watch }, metrics);
}

function observed(source: CertificateSource, metrics: AgentMetrics): CertificateSource {
  const observe = (material: TlsMaterial) =>
    metrics.certificate(new X509Certificate(material.cert).validToDate.getTime());
  if (source.material !== undefined) observe(source.material);
  return {
    material: source.material,
    watch: (onChange) =>
      source.watch((material) => {
        observe(material);
        onChange(material);
      }),
  };
}
