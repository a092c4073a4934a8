import Fastify from 'fastify';
import { type Address, formatAddress } from '../common/address.ts';
import { UnderstudyError } from '../common/errors.ts';
import type { PrometheusMetrics } from './prometheus-metrics.ts';

export interface HealthServer {
  /** With the port that the operating system chose, if it was 0. */
  readonly address: Address;
  stop(): Promise<void>;
}

/** What the probes tell. */
export interface Health {
  /** What is wrong, or undefined. */
  readonly trouble: string | undefined;
  readonly role: 'leader' | 'standby';
}

export interface Probes {
  /** Trouble: the process hangs, and should be started again. */
  alive(): Health;
  /** Trouble: it could not do its part now, as the leader or as the one that would take over. */
  ready(): Health;
}

/** /healthz, /readyz, and /metrics in the Prometheus format. */
export async function startHealthServer(
  listen: Address,
  probes: Probes,
  metrics: PrometheusMetrics,
): Promise<HealthServer> {
  const app = Fastify({ forceCloseConnections: true });
  for (const [path, probe] of [
    ['/healthz', probes.alive],
    ['/readyz', probes.ready],
  ] as const) {
    app.get(path, async (_request, reply) => {
      const { trouble, role } = probe();
      return await reply.code(trouble === undefined ? 200 : 503).send({ status: trouble ?? 'ok', role });
    });
  }
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
