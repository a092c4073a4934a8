import { errorCode } from '../../../common/errors.ts';
import type { VolumeService } from '../../volume/volume-service.ts';
import { holdRequestSchema } from '../contract/filling.ts';
import { routes } from '../contract/routes.ts';
import { snapshotRequestSchema } from '../contract/snapshots.ts';
import { type SnapshotView, snapshotViewSchema } from '../contract/volumes.ts';
import type { ApiServer } from '../fastify.ts';
import { holdParameters, snapshotParameters } from '../request-validation.ts';
import { answers, emptyAnswer, jsonAnswer } from '../responses.ts';

const tags = ['snapshots'];

export function addSnapshotRoutes(app: ApiServer, volumes: VolumeService): void {
  app.put(
    routes.snapshot,
    {
      schema: {
        tags,
        operationId: 'putSnapshot',
        summary: 'Takes a snapshot, at the primary. Idempotent by name.',
        description:
          'With `mirror` it is taken on that standby, exactly at the writes that the primary had made; without, on this ' +
          'copy. Repeat the request after 202 to learn what became of it.',
        params: snapshotParameters,
        body: snapshotRequestSchema,
        response: answers({
          200: jsonAnswer('It was there already.', snapshotViewSchema),
          201: jsonAnswer('It has been taken.', snapshotViewSchema),
          202: jsonAnswer('It waits for a lull or a freeze.', snapshotViewSchema),
        }),
      },
    },
    async (request, reply) => {
      const { volume, snapshot } = request.params;
      const before = await find(volumes, volume, snapshot);
      const view = await volumes.putSnapshot(volume, snapshot, request.body);
      return reply.code(statusOf(view, before)).send(view);
    },
  );

  app.get(
    routes.snapshot,
    {
      schema: {
        tags,
        operationId: 'getSnapshot',
        summary: 'A snapshot, at the copy that holds it.',
        params: snapshotParameters,
        response: answers({ 200: jsonAnswer('The snapshot as it is now.', snapshotViewSchema) }),
      },
    },
    (request) => volumes.getSnapshot(request.params.volume, request.params.snapshot),
  );

  app.delete(
    routes.snapshot,
    {
      schema: {
        tags,
        operationId: 'deleteSnapshot',
        summary: 'Deletes a snapshot, at the copy that holds it. Idempotent.',
        params: snapshotParameters,
        response: answers({ 204: emptyAnswer('It is not there, or no longer.') }),
      },
    },
    async (request, reply) => {
      await volumes.deleteSnapshot(request.params.volume, request.params.snapshot);
      return reply.code(204).send();
    },
  );

  addHoldRoutes(app, volumes);
}

function addHoldRoutes(app: ApiServer, volumes: VolumeService): void {
  app.put(
    routes.hold,
    {
      schema: {
        tags,
        operationId: 'holdSnapshot',
        summary: 'Keeps a snapshot for a volume that is filled from it. Idempotent.',
        description:
          'At the copy that holds the snapshot; the name of the hold is that of the other volume. While it is held it is not ' +
          'deleted, it is the last to lose its content to a full buffer, and the node may read it.',
        params: holdParameters,
        body: holdRequestSchema,
        response: answers({ 200: jsonAnswer('It is held.', snapshotViewSchema) }),
      },
    },
    ({ params, body }) => volumes.holdSnapshot(params.volume, params.snapshot, params.hold, body),
  );

  app.delete(
    routes.hold,
    {
      schema: {
        tags,
        operationId: 'releaseSnapshot',
        summary: 'Keeps a snapshot for that volume no longer. Idempotent.',
        params: holdParameters,
        response: answers({ 204: emptyAnswer('It is not held for it, or no longer.') }),
      },
    },
    async ({ params }, reply) => {
      await volumes.releaseSnapshot(params.volume, params.snapshot, params.hold);
      return reply.code(204).send();
    },
  );
}

function statusOf(view: SnapshotView, before: SnapshotView | undefined): 200 | 201 | 202 {
  if (view.state === 'Waiting') return 202;
  return before === undefined || before.state === 'Waiting' ? 201 : 200;
}

async function find(volumes: VolumeService, volume: string, snapshot: string): Promise<SnapshotView | undefined> {
  try {
    return await volumes.getSnapshot(volume, snapshot);
  } catch (error) {
    if (errorCode(error) === 'NotFound') return undefined;
    throw error;
  }
}
