import { type NodeView, nodeViewSchema } from '../contract/node.ts';
import { routes } from '../contract/routes.ts';
import type { ApiServer } from '../fastify.ts';
import { answers, jsonAnswer } from '../responses.ts';

export function addNodeRoute(app: ApiServer, node: NodeView): void {
  app.get(
    routes.node,
    {
      schema: {
        tags: ['node'],
        operationId: 'getNode',
        summary: 'The node of this agent, and where it takes mirror links.',
        response: answers({ 200: jsonAnswer('The node.', nodeViewSchema) }),
      },
    },
    () => node,
  );
}
