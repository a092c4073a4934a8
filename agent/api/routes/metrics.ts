import { z } from 'zod';
import type { VolumeService } from '../../volume/volume-service.ts';
import { routes } from '../contract/routes.ts';
import type { ApiServer } from '../fastify.ts';
import { Metrics } from '../metrics.ts';
import { answers } from '../responses.ts';

/** GET /metrics, and the observation of every request to the routes of this server. Added before all others. */
export function addMetricsRoute(app: ApiServer, volumes: VolumeService): void {
  const metrics = new Metrics();
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
    async (_request, reply) => reply.type(metrics.contentType).send(await metrics.render(await volumes.list())),
  );
}
