import { z } from 'zod';
import type { VolumeStatistics } from '../../volume/operation-statistics.ts';
import type { VolumeService } from '../../volume/volume-service.ts';
import { routes } from '../contract/routes.ts';
import type { ApiServer } from '../fastify.ts';
import type { AgentMetrics } from '../metrics.ts';
import { answers } from '../responses.ts';

/** What the volumes' threads have counted, by volume. */
export type StatisticsSource = () => Promise<ReadonlyMap<string, VolumeStatistics>>;

/** GET /metrics, and the observation of every request to the routes of this server. Added before all others. */
export function addMetricsRoute(
  app: ApiServer,
  metrics: AgentMetrics,
  volumes: VolumeService,
  statistics: StatisticsSource,
): void {
  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'none';
    metrics.observeRequest(request.method, route, reply.statusCode, reply.elapsedTime / 1000);
  });
  const text = { description: 'The Prometheus text format.', content: { 'text/plain': { schema: z.string() } } };
  app.get(
    routes.metrics,
    {
      schema: { tags: ['health'], operationId: 'getMetrics', summary: 'Metrics.', response: answers({ 200: text }) },
    },
    async (_request, reply) => {
      const [views, counted] = await Promise.all([volumes.list(), statistics()]);
      const scraped = views.map((view) => ({ view, statistics: counted.get(view.volume) }));
      return reply.type(metrics.contentType).send(await metrics.render(scraped));
    },
  );
}
