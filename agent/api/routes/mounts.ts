import { z } from 'zod';
import { UnderstudyError } from '../../../common/errors.ts';
import type { MountService } from '../../volume/mount-service.ts';
import { mountViewSchema, snapshotMountSchema, volumeMountSchema } from '../contract/mounts.ts';
import { routes } from '../contract/routes.ts';
import type { ApiServer } from '../fastify.ts';
import { snapshotMountParameters, volumeMountParameters } from '../request-validation.ts';
import { answers, emptyAnswer, jsonAnswer } from '../responses.ts';

const tags = ['mounts'];

export function addMountRoutes(app: ApiServer, mounts: MountService): void {
  app.get(
    routes.mounts,
    {
      schema: {
        tags,
        operationId: 'listMounts',
        summary: 'What this agent has mounted on its node.',
        response: answers({ 200: jsonAnswer('All mounts of volumes and snapshots.', z.array(mountViewSchema)) }),
      },
    },
    () => mounts.list(),
  );
  addVolumeMountRoutes(app, mounts);
  addSnapshotMountRoutes(app, mounts);
}

function addVolumeMountRoutes(app: ApiServer, mounts: MountService): void {
  app.put(
    routes.volumeMount,
    {
      schema: {
        tags,
        operationId: 'mountVolume',
        summary: 'Mounts the volume of a primary on this node. Idempotent.',
        params: volumeMountParameters,
        body: volumeMountSchema,
        response: answers({ 200: jsonAnswer('It is mounted.', mountViewSchema) }),
      },
    },
    (request) => mounts.mountVolume(request.params.volume, request.params.mount, request.body),
  );

  app.delete(
    routes.volumeMount,
    {
      schema: {
        tags,
        operationId: 'unmountVolume',
        summary: 'Undoes a mount of a volume. Idempotent.',
        params: volumeMountParameters,
        response: answers({ 204: emptyAnswer('It is not mounted, or no longer.') }),
      },
    },
    async (request, reply) => {
      const { volume, mount } = request.params;
      await unmount(mounts, volume, undefined, mount);
      return reply.code(204).send();
    },
  );
}

function addSnapshotMountRoutes(app: ApiServer, mounts: MountService): void {
  app.put(
    routes.snapshotMount,
    {
      schema: {
        tags,
        operationId: 'mountSnapshot',
        summary: 'Mounts a snapshot read-only on this node. Idempotent.',
        description: "The filesystem's journal is replayed into a scratch overlay first; the snapshot stays as it is.",
        params: snapshotMountParameters,
        body: snapshotMountSchema,
        response: answers({ 200: jsonAnswer('It is mounted.', mountViewSchema) }),
      },
    },
    (request) => {
      const { volume, snapshot, mount } = request.params;
      return mounts.mountSnapshot(volume, snapshot, mount, request.body);
    },
  );

  app.delete(
    routes.snapshotMount,
    {
      schema: {
        tags,
        operationId: 'unmountSnapshot',
        summary: 'Undoes a mount of a snapshot. Idempotent.',
        params: snapshotMountParameters,
        response: answers({ 204: emptyAnswer('It is not mounted, or no longer.') }),
      },
    },
    async (request, reply) => {
      const { volume, snapshot, mount } = request.params;
      await unmount(mounts, volume, snapshot, mount);
      return reply.code(204).send();
    },
  );
}

/** A volume's mounts have one space of names; a request that says another snapshot must not undo a stranger's mount. */
async function unmount(
  mounts: MountService,
  volume: string,
  snapshot: string | undefined,
  mount: string,
): Promise<void> {
  const found = (await mounts.list()).find((view) => view.volume === volume && view.mount === mount);
  if (found && found.snapshot !== snapshot) {
    const what = found.snapshot === undefined ? 'the volume itself' : `snapshot "${found.snapshot}"`;
    throw new UnderstudyError('Conflict', `mount "${mount}" of volume "${volume}" is of ${what}; unmount it there`);
  }
  await mounts.unmount(volume, mount);
}
