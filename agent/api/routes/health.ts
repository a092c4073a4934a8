import { z } from 'zod';
import { UnderstudyError } from '../../../common/errors.ts';
import type { MountService } from '../../volume/mount-service.ts';
import type { VolumeService } from '../../volume/volume-service.ts';
import { routes } from '../contract/routes.ts';
import type { ApiServer } from '../fastify.ts';
import { answers, jsonAnswer } from '../responses.ts';

const tags = ['health'];
const healthSchema = z.object({ status: z.literal('ok') });

export function addHealthRoutes(app: ApiServer, volumes: VolumeService, mounts: MountService): void {
  app.get(
    routes.healthz,
    {
      schema: {
        tags,
        operationId: 'isAlive',
        summary: 'Whether the process is alive.',
        response: answers({ 200: jsonAnswer('It is.', healthSchema) }),
      },
    },
    () => ({ status: 'ok' as const }),
  );

  app.get(
    routes.readyz,
    {
      schema: {
        tags,
        operationId: 'isReady',
        summary: 'Whether every volume, and every mount, has been recovered after the start.',
        response: answers({ 200: jsonAnswer('All are.', healthSchema) }),
      },
    },
    async () => {
      const recovering = (await volumes.list()).filter((view) => view.state === 'Recovering').length;
      if (recovering > 0) throw new UnderstudyError('NotReady', `volumes in recovery: ${recovering}`);
      await mounts.list();
      return { status: 'ok' as const };
    },
  );
}
