import Fastify, { type FastifyReply, type FastifyRequest } from 'fastify';
import type { Log } from '../../common/log.ts';
import type { MountService } from '../volume/mount-service.ts';
import type { VolumeService } from '../volume/volume-service.ts';
import { admit } from './admission.ts';
import type { NodeView } from './contract/node.ts';
import type { Problem } from './contract/problem.ts';
import { routes } from './contract/routes.ts';
import type { ApiServer } from './fastify.ts';
import { KnownMethods } from './known-methods.ts';
import { answerBrokenRequest, createListener, type TlsMaterial } from './listener.ts';
import { AgentMetrics } from './metrics.ts';
import { describeRoutes } from './openapi.ts';
import { HttpError, problemOf } from './problem.ts';
import { compileValidator } from './request-validation.ts';
import { addGroupRoutes } from './routes/groups.ts';
import { addHealthRoutes } from './routes/health.ts';
import { addMetricsRoute, type StatisticsSource } from './routes/metrics.ts';
import { addMountRoutes } from './routes/mounts.ts';
import { addNodeRoute } from './routes/node.ts';
import { addSnapshotRoutes } from './routes/snapshots.ts';
import { addVolumeRoutes } from './routes/volumes.ts';

/** The largest body of a request is a volume with 16 mirrors, a few KiB. */
const bodyLimitBytes = 64 * 1024;
/** Above the longest valid name, so that a longer one is answered with what is wrong with it. */
const maxParameterLength = 1024;

const problemType = 'application/problem+json';

export interface ApiOptions {
  readonly node: NodeView;
  readonly volumes: VolumeService;
  readonly mounts: MountService;
  /** Of Understudy, for the OpenAPI document. */
  readonly version: string;
  /** Without it the API is served over plain HTTP, to clients of this machine only. */
  readonly tls: TlsMaterial | undefined;
  readonly log: Log;
  readonly metrics?: AgentMetrics;
  /** For the metrics; none without it. */
  readonly statistics?: StatisticsSource;
}

/** The HTTP API of an agent, ready to listen. Its contract is in contract/; every error is a problem (RFC 9457). */
export async function createApi(options: ApiOptions): Promise<ApiServer> {
  const { node, volumes, mounts, version, tls, log, metrics = new AgentMetrics(version) } = options;
  const statistics = options.statistics ?? (async () => new Map());
  const app: ApiServer = Fastify({
    bodyLimit: bodyLimitBytes,
    routerOptions: { maxParamLength: maxParameterLength },
    serverFactory: (handler) => createListener(tls, handler),
    clientErrorHandler: answerBrokenRequest,
    frameworkErrors: answerBadUrl,
    return503OnClosing: false,
  });
  app.setValidatorCompiler(compileValidator);
  // What handlers return has been checked by the compiler; a copy that is odd at runtime must still be seen by GET.
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  answerErrors(app, log);
  const known = new KnownMethods();
  app.addHook('onRoute', ({ url, method }) => known.add(url, method));
  app.addHook('onRequest', async (request) => admit(request.raw, pathOf(request.url)));
  app.setNotFoundHandler((request) => {
    const path = pathOf(request.url);
    const methods = known.of(path);
    if (methods.length === 0) throw new HttpError(404, `there is no ${path}; see ${routes.openapi}`);
    const allow = methods.join(', ');
    throw new HttpError(405, `expected ${allow} for ${path}, got ${request.method}`, { allow });
  });

  await describeRoutes(app, version);
  addMetricsRoute(app, metrics, volumes, statistics);
  addHealthRoutes(app, volumes, mounts);
  addNodeRoute(app, node);
  addVolumeRoutes(app, volumes);
  addSnapshotRoutes(app, volumes);
  addGroupRoutes(app, volumes);
  addMountRoutes(app, mounts);
  app.get(routes.openapi, { schema: { hide: true } }, () => app.swagger());
  await app.ready();
  return app;
}

/** Every error becomes a problem; those that are no fault of the client are logged, with all that the client is not told. */
function answerErrors(app: ApiServer, log: Log): void {
  app.setErrorHandler((error, request, reply) => {
    const { problem, headers } = problemOf(error, request.id);
    const labels = { request: request.id, method: request.method, path: pathOf(request.url), status: problem.status };
    if (problem.status === 500) log.error({ ...labels, error }, 'request failed');
    else log.debug({ ...labels, detail: problem.detail }, 'request refused');
    reply.code(problem.status).headers(headers).type(problemType).send(encode(problem));
  });
}

/** A URL with a broken percent-encoding, which the router cannot even try to match. */
function answerBadUrl(error: Error, request: FastifyRequest, reply: FastifyReply): void {
  const { problem } = problemOf(error, request.id);
  reply.code(problem.status).type(problemType).send(encode(problem));
}

/** As bytes, since fastify adds to the content type of a text a charset that this one does not have. */
function encode(problem: Problem): Buffer {
  return Buffer.from(JSON.stringify(problem));
}

function pathOf(url: string): string {
  return url.split('?', 1)[0] ?? url;
}
