/** The routes of the agent API, as patterns of its router. */
export const routes = {
  node: '/v1/node',
  volumes: '/v1/volumes',
  volume: '/v1/volumes/:volume',
  prepare: '/v1/volumes/:volume/prepare',
  verify: '/v1/volumes/:volume/verify',
  restore: '/v1/volumes/:volume/restore',
  snapshot: '/v1/volumes/:volume/snapshots/:snapshot',
  group: '/v1/volumes/:volume/groups/:attempt',
  hold: '/v1/volumes/:volume/snapshots/:snapshot/holds/:hold',
  mounts: '/v1/mounts',
  volumeMount: '/v1/volumes/:volume/mounts/:mount',
  snapshotMount: '/v1/volumes/:volume/snapshots/:snapshot/mounts/:mount',
  openapi: '/openapi.json',
  healthz: '/healthz',
  readyz: '/readyz',
  metrics: '/metrics',
} as const;

type ParametersOf<Route extends string> = Route extends `${infer Head}/${infer Rest}`
  ? ParametersOf<Head> | ParametersOf<Rest>
  : Route extends `:${infer Name}`
    ? Name
    : never;

/** The path of a route with its parameters filled in: `routePath(routes.volume, { volume: 'v1' })` is "/v1/volumes/v1". */
export function routePath<Route extends string>(
  route: Route,
  parameters: Readonly<Record<ParametersOf<Route>, string>>,
): string {
  const values: Readonly<Record<string, string>> = parameters;
  return route.replace(/:([a-z]+)/gi, (_, name: string) => encodeURIComponent(values[name] ?? ''));
}
