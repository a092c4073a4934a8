import { z } from 'zod';
import type { VolumeService } from '../../volume/volume-service.ts';
import { restoreRequestSchema } from '../contract/restore.ts';
import { routes } from '../contract/routes.ts';
import { verificationRequestSchema } from '../contract/verification.ts';
import { prepareRequestSchema, prepareResultSchema, volumeSpecSchema, volumeViewSchema } from '../contract/volumes.ts';
import type { ApiServer } from '../fastify.ts';
import { volumeParameters } from '../request-validation.ts';
import { answers, emptyAnswer, jsonAnswer } from '../responses.ts';

const tags = ['volumes'];

export function addVolumeRoutes(app: ApiServer, volumes: VolumeService): void {
  app.get(
    routes.volumes,
    {
      schema: {
        tags,
        operationId: 'listVolumes',
        summary: 'The copies of volumes on this node.',
        response: answers({ 200: jsonAnswer('All copies, in any state.', z.array(volumeViewSchema)) }),
      },
    },
    () => volumes.list(),
  );

  app.get(
    routes.volume,
    {
      schema: {
        tags,
        operationId: 'getVolume',
        summary: 'One copy, with its mirrors, snapshots and buffer.',
        params: volumeParameters,
        response: answers({ 200: jsonAnswer('The copy as it is now.', volumeViewSchema) }),
      },
    },
    (request) => volumes.get(request.params.volume),
  );

  app.put(
    routes.volume,
    {
      schema: {
        tags,
        operationId: 'putVolume',
        summary: 'Creates or changes the copy of a volume on this node. Idempotent.',
        description:
          'The role may change with a higher epoch only. Mirrors and buffer may change, and the size may grow. ' +
          'A standby is promoted by role "primary" and the new epoch, after it has been prepared for that epoch.',
        params: volumeParameters,
        body: volumeSpecSchema,
        response: answers({
          200: jsonAnswer('It was there; this is what it is now.', volumeViewSchema),
          201: jsonAnswer('It has been created.', volumeViewSchema),
        }),
      },
    },
    async (request, reply) => {
      const { created, view } = await volumes.put(request.params.volume, request.body);
      return reply.code(created ? 201 : 200).send(view);
    },
  );

  app.delete(
    routes.volume,
    {
      schema: {
        tags,
        operationId: 'deleteVolume',
        summary: 'Removes this copy with its data and its snapshots. Idempotent.',
        params: volumeParameters,
        response: answers({ 204: emptyAnswer('It is not there, or no longer.') }),
      },
    },
    async (request, reply) => {
      await volumes.delete(request.params.volume);
      return reply.code(204).send();
    },
  );

  app.post(
    routes.prepare,
    {
      schema: {
        tags,
        operationId: 'prepareVolume',
        summary: 'Prepares a standby for its promotion.',
        description:
          'From now on the standby refuses every epoch below the given one, also after a restart. It has applied and ' +
          'synced everything it received when this answers, and says whether it is fit to be promoted.',
        params: volumeParameters,
        body: prepareRequestSchema,
        response: answers({ 200: jsonAnswer('What the standby holds.', prepareResultSchema) }),
      },
    },
    (request) => volumes.prepare(request.params.volume, request.body.epoch),
  );

  addVerificationRoutes(app, volumes);
  addRestoreRoutes(app, volumes);
}

function addVerificationRoutes(app: ApiServer, volumes: VolumeService): void {
  app.post(
    routes.verify,
    {
      schema: {
        tags,
        operationId: 'verifyVolume',
        summary: 'Compares both copies of a mirror, or of every mirror, while the volume is in use.',
        description:
          'At the primary, while the mirror is InSync. GET of the volume shows how far it is and which ranges differ ' +
          '(mirrors[].verification). Nothing is changed unless `repair` says so.',
        params: volumeParameters,
        body: verificationRequestSchema,
        response: answers({ 202: jsonAnswer('It has begun.', volumeViewSchema) }),
      },
    },
    async (request, reply) => {
      const view = await volumes.verify(request.params.volume, request.body);
      return reply.code(202).send(view);
    },
  );

  app.delete(
    routes.verify,
    {
      schema: {
        tags,
        operationId: 'stopVerification',
        summary: 'Ends the verifications of a volume early; what they have found stays in its view. Idempotent.',
        params: volumeParameters,
        response: answers({ 204: emptyAnswer('None is under way, or not for long.') }),
      },
    },
    async (request, reply) => {
      await volumes.stopVerification(request.params.volume, undefined);
      return reply.code(204).send();
    },
  );
}

function addRestoreRoutes(app: ApiServer, volumes: VolumeService): void {
  app.put(
    routes.restore,
    {
      schema: {
        tags,
        operationId: 'restoreVolume',
        summary: 'Puts a volume back to what one of its snapshots holds. Idempotent by name.',
        description:
          'At the primary, while nobody uses the volume. Only what differs is written, and reaches the mirrors as any ' +
          'write does. Until it is done the live volume is not offered, whichever copy is the primary; it goes on after a ' +
          'restart, and after a change of the primary where the snapshot is. GET of the volume shows how far it is (restore).',
        params: volumeParameters,
        body: restoreRequestSchema,
        response: answers({ 202: jsonAnswer('It has begun, or is over.', volumeViewSchema) }),
      },
    },
    async (request, reply) => {
      const view = await volumes.restore(request.params.volume, request.body);
      return reply.code(202).send(view);
    },
  );

  app.delete(
    routes.restore,
    {
      schema: {
        tags,
        operationId: 'giveUpRestore',
        summary: 'Gives a restore up: the volume stays as it is now, half restored or not, and is offered. Idempotent.',
        params: volumeParameters,
        response: answers({ 204: emptyAnswer('None is under way any more, or not for long.') }),
      },
    },
    async (request, reply) => {
      await volumes.giveUpRestore(request.params.volume);
      return reply.code(204).send();
    },
  );
}
