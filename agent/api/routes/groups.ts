import type { VolumeService } from '../../volume/volume-service.ts';
import { groupHoldRequestSchema, groupHoldViewSchema } from '../contract/groups.ts';
import { routes } from '../contract/routes.ts';
import type { ApiServer } from '../fastify.ts';
import { groupParameters } from '../request-validation.ts';
import { answers, jsonAnswer } from '../responses.ts';

const tags = ['groups'];

export function addGroupRoutes(app: ApiServer, volumes: VolumeService): void {
  app.put(
    routes.group,
    {
      schema: {
        tags,
        operationId: 'holdAcknowledgements',
        summary: 'Holds the acknowledgements of writes for an attempt of a snapshot group, at the primary. Idempotent.',
        description:
          'First this at the primaries of all volumes of the group, then the snapshots with `group`, then DELETE at all. ' +
          'Writes are carried out meanwhile; they are acknowledged at the end, at the deadline at the latest.',
        params: groupParameters,
        body: groupHoldRequestSchema,
        response: answers({ 200: jsonAnswer('They are held.', groupHoldViewSchema) }),
      },
    },
    ({ params, body }) => volumes.holdAcknowledgements(params.volume, params.attempt, body),
  );

  app.delete(
    routes.group,
    {
      schema: {
        tags,
        operationId: 'releaseAcknowledgements',
        summary: 'Lets the acknowledgements of writes go, and says whether they were held until now. Idempotent.',
        params: groupParameters,
        response: answers({ 200: jsonAnswer('They are not held any more.', groupHoldViewSchema) }),
      },
    },
    ({ params }) => volumes.releaseAcknowledgements(params.volume, params.attempt),
  );
}
