import type { Clock } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import { isNotFound } from '../kube/kube-error.ts';
import { kubeTime } from '../resources/conditions.ts';
import { type Event, events } from '../resources/core-kinds.ts';
import type { KubeObject } from '../resources/kube-object.ts';
import type { ConditionEvent } from './condition-events.ts';

/** Events that are remembered, so that the same one is counted instead of written again. */
const rememberedEvents = 1000;
/** Events that wait to be written; more are dropped, they are for people only. */
const waitingEvents = 200;
const component = 'understudy-operator';

interface Remembered {
  readonly namespace: string;
  readonly name: string;
  count: number;
}

/** Writes Kubernetes Events about objects. It never fails and never delays its caller. */
export class EventRecorder {
  readonly #api: KubeApi;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #log: Log;
  readonly #remembered = new Map<string, Remembered>();
  #last: Promise<void> = Promise.resolve();
  #waiting = 0;

  constructor(api: KubeApi, clock: Clock, random: () => number, log: Log) {
    this.#api = api;
    this.#clock = clock;
    this.#random = random;
    this.#log = log;
  }

  record(object: KubeObject, event: ConditionEvent): void {
    if (this.#waiting >= waitingEvents) return;
    this.#waiting += 1;
    this.#last = this.#last.then(async () => {
      try {
        await this.#write(object, event);
      } catch (error) {
        // In a namespace that is being deleted, for one, no event can be created.
        this.#log.debug({ object: object.metadata.name, error: errorMessage(error) }, 'could not write an event');
      }
      this.#waiting -= 1;
    });
  }

  /** Resolves when everything recorded so far is written, or dropped. */
  async flush(): Promise<void> {
    await this.#last;
  }

  async #write(object: KubeObject, event: ConditionEvent): Promise<void> {
    const key = [object.metadata.uid, event.type, event.reason, event.message].join('\n');
    const known = this.#remembered.get(key);
    if (known !== undefined && (await this.#countAgain(known))) return;
    const created = await this.#api.create(events, this.#newEvent(object, event));
    const { namespace = '', name } = created.metadata;
    this.#remembered.set(key, { namespace, name, count: 1 });
    const [oldest] = this.#remembered.keys();
    if (this.#remembered.size > rememberedEvents && oldest !== undefined) this.#remembered.delete(oldest);
  }

  /** @returns false if the event is gone: the API server keeps them for an hour. */
  async #countAgain(known: Remembered): Promise<boolean> {
    const change = { count: known.count + 1, lastTimestamp: kubeTime(this.#clock.wallTimeMs()) };
    try {
      await this.#api.patch(events, { namespace: known.namespace, name: known.name }, change);
      known.count += 1;
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }

  #newEvent(object: KubeObject, event: ConditionEvent) {
    const { name, namespace, uid } = object.metadata;
    const now = kubeTime(this.#clock.wallTimeMs());
    const suffix = Math.floor(this.#random() * 16 ** 10).toString(16);
    return {
      apiVersion: 'v1',
      kind: 'Event',
      // Events about cluster-scoped objects are kept in the default namespace.
      metadata: { name: `${name.slice(0, 200)}.${suffix}`, namespace: namespace ?? 'default' },
      involvedObject: {
        apiVersion: object.apiVersion,
        kind: object.kind,
        name,
        ...(namespace === undefined ? {} : { namespace }),
        uid,
      },
      type: event.type,
      reason: event.reason,
      message: event.message.slice(0, 1000),
      source: { component },
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
    } satisfies Omit<Event, 'metadata'> & { metadata: object };
  }
}
