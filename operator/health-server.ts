import Fastify from 'fastify';
import { type Address, formatAddress } from '../common/address.ts';
import { UnderstudyError } from '../common/errors.ts';
import type { PrometheusMetrics } from './prometheus-metrics.ts';

export interface HealthServer {
  /** With the port that the operating system chose, if it was 0. */
  readonly address: Address;
  stop(): Promise<void>;
}

/** /healthz (the process is alive), /readyz (everything was listed once, so it works), /metrics (Prometheus). */
export async function startHealthServer(
  listen: Address,
  isReady: () => boolean,
  metrics: PrometheusMetrics,
): Promise<HealthServer> {
  const app = Fastify({ forceCloseConnections: true });
  app.get('/healthz', () => ({ status: 'ok' }));
  app.get('/readyz', async (_request, reply) => {
    if (isReady()) return { status: 'ok' };
    return await reply.code(503).send({ status: 'the Kubernetes API has not been read yet' });
  });
  app.get('/metrics', async (_request, reply) => reply.type(metrics.contentType).send(await metrics.render()));
  try {
    await app.listen(listen);
  } catch (cause) {
    throw new UnderstudyError('Unavailable', `cannot listen on ${formatAddress(listen)} (health.listen)`, { cause });
  }
  const bound = app.server.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : listen.port;
  return { address: { host: listen.host, port }, stop: () => app.close() };
}
