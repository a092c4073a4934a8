import { type Clock, delay } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import { isConflict } from '../kube/kube-error.ts';
import { type ConfigMap, configMaps, type Secret, secrets } from '../resources/platform-kinds.ts';
import { type Authority, type AuthorityPolicy, bundleOf, notePublished, planAuthorities } from './authorities.ts';
import { bundleKey, decodeAuthorities, encodeAuthorities, rotateAnnotation } from './authority-codec.ts';
import { makeAuthority, type RandomBytes } from './x509.ts';

export interface AuthorityKeeperOptions {
  readonly api: KubeApi;
  readonly namespace: string;
  readonly secret: string;
  readonly configMap: string;
  readonly policy: AuthorityPolicy;
  readonly clock: Clock;
  readonly random: RandomBytes;
  readonly log: Log;
  /** Told at the beginning, and after every change. */
  readonly onChange: (authorities: readonly Authority[]) => Promise<void>;
}

/** How often the Secret is looked at, and how soon while there is none. */
const intervalMs = 30_000;
const impatientMs = 1_000;

/**
 * Keeps the authorities in a Secret, and publishes their certificates in a ConfigMap. Every replica reads; the one that
 * leads also makes, rotates and publishes them.
 *
 * The Secret is created once: of several that create it at the same time, one succeeds, and the others read what it made.
 * Every change names the version that it replaces.
 */
export class AuthorityKeeper {
  readonly #options: AuthorityKeeperOptions;
  readonly #stopping = new AbortController();
  #authorities: readonly Authority[] = [];
  /** With which changes are made; undefined while another replica leads. */
  #writer: KubeApi | undefined;
  #wake = new AbortController();
  #pass: Promise<void> = Promise.resolve();
  #ended: Promise<void> | undefined;

  constructor(options: AuthorityKeeperOptions) {
    this.#options = options;
  }

  get authorities(): readonly Authority[] {
    return this.#authorities;
  }

  start(): void {
    this.#ended = this.#run();
  }

  /** From now on this replica makes changes, until `stop`. */
  manage(api: KubeApi): { stop(): Promise<void> } {
    this.#writer = api;
    this.#wake.abort();
    return {
      stop: async () => {
        if (this.#writer === api) this.#writer = undefined;
        await this.#pass;
      },
    };
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake.abort();
    await this.#ended;
  }

  async #run(): Promise<void> {
    const { clock, log, policy } = this.#options;
    while (!this.#stopping.signal.aborted) {
      this.#wake = new AbortController();
      let failed = false;
      this.#pass = this.#look().catch((error) => {
        failed = true;
        // Another replica was faster: what it made is read at once.
        if (!isConflict(error)) log.warn({ error: errorMessage(error) }, 'cannot keep the authorities');
      });
      await this.#pass;
      const calmMs = Math.min(intervalMs, policy.publishMs / 4);
      const pauseMs = failed || this.#authorities.length === 0 ? Math.min(impatientMs, calmMs) : calmMs;
      await delay(clock, pauseMs, AbortSignal.any([this.#stopping.signal, this.#wake.signal])).catch(() => {});
    }
  }

  async #look(): Promise<void> {
    const { api, namespace, secret: name } = this.#options;
    const secret = await api.get(secrets, { namespace, name });
    const found = secret === undefined ? [] : decodeAuthorities(secret);
    const writer = this.#writer;
    if (writer === undefined) return await this.#adopt(found);
    const planned = await this.#plan(found, secret?.metadata.annotations?.[rotateAnnotation] === 'true');
    const kept = await this.#save(writer, secret, planned);
    await this.#adopt(planned);
    await this.#publish(writer, bundleOf(planned));
    const { clock } = this.#options;
    // Only after it was published: from then on the time counts until it may sign.
    await this.#save(writer, kept, notePublished(planned, clock.wallTimeMs()));
  }

  async #plan(found: readonly Authority[], rotate: boolean): Promise<readonly Authority[]> {
    const { clock, policy, random, log } = this.#options;
    const nowMs = clock.wallTimeMs();
    const { authorities, missing } = planAuthorities(found, nowMs, policy, rotate);
    if (missing === undefined) return authorities;
    const made = await makeAuthority(missing, nowMs, policy.authorityLifeMs, random);
    log.info({ authority: made.id, state: missing }, 'made a new authority');
    return [...authorities, made];
  }

  /** @returns the Secret as it is then. */
  async #save(api: KubeApi, secret: Secret | undefined, authorities: readonly Authority[]): Promise<Secret> {
    const { namespace, secret: name } = this.#options;
    const data = encodeAuthorities(authorities);
    if (secret === undefined) {
      const object = { apiVersion: 'v1', kind: 'Secret', metadata: { namespace, name }, type: 'Opaque', data };
      return await api.create(secrets, object);
    }
    const { [rotateAnnotation]: asked, ...annotations } = secret.metadata.annotations ?? {};
    // The order was carried out when there is one that is next; then it is taken back together with it.
    const done = asked !== undefined && authorities.some(({ state }) => state === 'next');
    if (!done && JSON.stringify(secret.data) === JSON.stringify(data)) return secret;
    const metadata = done ? { ...secret.metadata, annotations } : secret.metadata;
    return await api.update(secrets, { ...secret, metadata, data });
  }

  async #publish(api: KubeApi, bundle: string): Promise<void> {
    const { namespace, configMap: name } = this.#options;
    const current = await api.get(configMaps, { namespace, name });
    if (current?.data?.[bundleKey] === bundle) return;
    const object = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { namespace, name },
      data: { [bundleKey]: bundle },
    };
    if (current === undefined) await api.create(configMaps, object);
    else await api.update<ConfigMap>(configMaps, { ...current, data: { ...current.data, [bundleKey]: bundle } });
  }

  async #adopt(authorities: readonly Authority[]): Promise<void> {
    if (JSON.stringify(authorities) === JSON.stringify(this.#authorities)) return;
    this.#authorities = authorities;
    await this.#options.onChange(authorities);
  }
}
