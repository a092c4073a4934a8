import type { KubeApi } from '../../operator/kube/kube-api.ts';

/**
 * The API as over a network: what comes out of it is nobody else's object, as each answer is parsed anew there; every request
 * is counted.
 */
export class CountingApi implements KubeApi {
  /** By verb. A watch counts once, when it begins. */
  readonly requests = new Map<string, number>();
  readonly #api: KubeApi;

  constructor(api: KubeApi) {
    this.#api = api;
  }

  get total(): number {
    return [...this.requests.values()].reduce((sum, count) => sum + count, 0);
  }

  readonly get: KubeApi['get'] = async (...args) => this.#counted('get', await this.#api.get(...args));
  readonly list: KubeApi['list'] = async (...args) => this.#counted('list', await this.#api.list(...args));
  readonly create: KubeApi['create'] = async (...args) => this.#counted('create', await this.#api.create(...args));
  readonly update: KubeApi['update'] = async (...args) => this.#counted('update', await this.#api.update(...args));
  readonly updateStatus: KubeApi['updateStatus'] = async (...args) =>
    this.#counted('update', await this.#api.updateStatus(...args));
  readonly patch: KubeApi['patch'] = async (...args) => this.#counted('patch', await this.#api.patch(...args));
  readonly delete: KubeApi['delete'] = async (...args) => this.#counted('delete', await this.#api.delete(...args));
  readonly exec: KubeApi['exec'] = async (...args) => this.#counted('exec', await this.#api.exec(...args));
  readonly watch: KubeApi['watch'] = async (resource, request, onEvent) => {
    this.#counted('watch', undefined);
    await this.#api.watch(resource, request, (event) => onEvent(structuredClone(event)));
  };

  #counted<Answer>(verb: string, answer: Answer): Answer {
    this.requests.set(verb, (this.requests.get(verb) ?? 0) + 1);
    return structuredClone(answer);
  }
}
