import { afterEach, expect, test } from 'vitest';
import type { Clock } from '../../../common/clock.ts';
import { UnderstudyError } from '../../../common/errors.ts';
import { silentLog } from '../../../common/log.ts';
import { InMemoryKubeApi } from '../../../operator/kube/in-memory-kube-api.ts';
import type { KubeApi } from '../../../operator/kube/kube-api.ts';
import { kubeError } from '../../../operator/kube/kube-error.ts';
import { electionTiming } from '../../../operator/leader/election.ts';
import { LeaderElector } from '../../../operator/leader/leader-elector.ts';
import { apiWithin, type Term } from '../../../operator/leader/term.ts';
import { configMaps, leases } from '../../../operator/resources/platform-kinds.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { settle } from '../../support/settle.ts';

const key = { namespace: 'default', name: 'understudy-operator' };
const timing = electionTiming(15_000);

/** A replica with a clock of its own that does not start where the others' do. */
class TestReplica {
  readonly timers = new ManualClock();
  readonly identity: string;
  readonly elector: LeaderElector;
  readonly terms: Term[] = [];
  #skewMs: number;
  /** Holds up the end of the work, until it is called. */
  finishWork: (() => void) | undefined;
  slowToStop = false;
  reachable = true;
  losesReplies = false;

  constructor(identity: string, api: KubeApi, skewMs: number) {
    this.identity = identity;
    this.#skewMs = skewMs;
    const clock: Clock = {
      wallTimeMs: () => this.timers.wallTimeMs() + this.#skewMs + 1e12,
      monotonicMs: () => this.timers.monotonicMs() + this.#skewMs,
      after: (delayMs, callback) => this.timers.after(delayMs, callback),
      soon: (callback) => this.timers.soon(callback),
    };
    this.elector = new LeaderElector({
      api: this.#network(api),
      lease: key,
      identity,
      timing,
      clock,
      random: () => 0,
      log: silentLog,
      lead: (term) => {
        this.terms.push(term);
        return {
          stop: async () => {
            if (this.slowToStop) await new Promise<void>((resolve) => (this.finishWork = resolve));
          },
        };
      },
    });
  }

  /** Time passes without this process running, as after SIGSTOP. */
  standStill(ms: number): void {
    this.#skewMs += ms;
  }

  get acts(): boolean {
    return this.terms.some((term) => term.isHeld());
  }

  #network(api: KubeApi): KubeApi {
    const send = async <Answer>(request: () => Promise<Answer>): Promise<Answer> => {
      if (!this.reachable) throw kubeError(503, 'Unreachable', 'cut off');
      const answer = await request();
      if (this.losesReplies) throw kubeError(504, 'Timeout', 'the reply was lost');
      return answer;
    };
    return {
      ...apiWithin({ isHeld: () => true, check: () => {}, over: new AbortController().signal }, api),
      get: (resource, object) => send(() => api.get(resource, object)),
      create: (resource, object) => send(() => api.create(resource, object)),
      update: (resource, object) => send(() => api.update(resource, object)),
    };
  }
}

let replicas: TestReplica[] = [];
afterEach(async () => {
  for (const replica of replicas) {
    replica.slowToStop = false;
    replica.finishWork?.();
    await replica.elector.stop();
  }
  replicas = [];
});

async function startTwo(): Promise<{ api: InMemoryKubeApi; a: TestReplica; b: TestReplica }> {
  const api = new InMemoryKubeApi();
  const a = new TestReplica('a', api, 0);
  const b = new TestReplica('b', api, -3_600_000);
  replicas = [a, b];
  a.elector.start();
  await settle();
  b.elector.start();
  await pass(100);
  expect([a.acts, b.acts]).toEqual([true, false]);
  return { api, a, b };
}

/** Lets time pass, in small steps; those that do not run stand still meanwhile. Nobody may ever act beside another. */
async function pass(ms: number, running = replicas): Promise<void> {
  for (let passed = 0; passed < ms; passed += 100) {
    for (const replica of replicas) {
      if (running.includes(replica)) replica.timers.advance(100);
      else replica.standStill(100);
    }
    await settle();
    expect(replicas.filter((replica) => replica.acts).length).toBeLessThanOrEqual(1);
  }
}

test('one leads, for as long as it renews, and the lease says who', async () => {
  const { api, a, b } = await startTwo();
  await pass(60_000);
  expect([a.acts, b.acts]).toEqual([true, false]);
  expect(a.terms.length).toBe(1);
  const { spec } = (await api.get(leases, key)) ?? {};
  expect(spec).toMatchObject({ holderIdentity: 'a', leaseDurationSeconds: 15, leaseTransitions: 0 });
  expect(spec?.renewTime).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
  expect(b.elector.holder).toBe('a');
  expect([b.elector.isInContact, b.elector.isAlive]).toEqual([true, true]);
});

test('an orderly stop ends the work, then releases the lease, and the other leads within a retry', async () => {
  const { api, a, b } = await startTwo();
  a.slowToStop = true;
  const stopped = a.elector.stop();
  await pass(30_000);
  expect([a.acts, b.acts]).toEqual([true, false]);
  a.finishWork?.();
  await stopped;
  expect((await api.get(leases, key))?.spec).toMatchObject({ holderIdentity: '', leaseTransitions: 0 });
  expect(a.acts).toBe(false);
  await pass(timing.retryMs + 100, [b]);
  expect(b.acts).toBe(true);
  expect((await api.get(leases, key))?.spec).toMatchObject({ holderIdentity: 'b', leaseTransitions: 1 });
});

test('a leader that cannot renew stops before another begins, and does not come back while that one leads', async () => {
  const { a, b } = await startTwo();
  a.reachable = false;
  await pass(timing.renewDeadlineMs + timing.retryMs);
  expect([a.acts, b.acts]).toEqual([false, false]);
  expect(() => a.terms[0]?.check()).toThrow('does not lead any more');
  expect(a.terms[0]?.over.aborted).toBe(true);
  expect(a.elector.isInContact).toBe(true);
  await pass(timing.leaseMs);
  expect([a.acts, b.acts]).toEqual([false, true]);
  await pass(timing.leaseMs * 2);
  expect(a.elector.isInContact).toBe(false);
  a.reachable = true;
  await pass(60_000);
  expect([a.acts, b.acts]).toEqual([false, true]);
});

test('a process that stood still does not act when it goes on', async () => {
  const { a, b } = await startTwo();
  await pass(timing.leaseMs + timing.retryMs * 2, [b]);
  expect(b.acts).toBe(true);
  // Not a timer of it has fired yet.
  expect(a.acts).toBe(false);
  expect(() => a.terms[0]?.check()).toThrow('does not lead any more');
  await pass(60_000);
  expect([a.acts, b.acts]).toEqual([false, true]);
});

test('lost replies cost the term, and nobody acts beside another', async () => {
  const { a, b } = await startTwo();
  a.losesReplies = true;
  await pass(timing.renewDeadlineMs + timing.retryMs);
  expect(a.acts).toBe(false);
  // Its writes arrive, so the other one waits.
  expect(b.acts).toBe(false);
  a.losesReplies = false;
  await pass(timing.retryMs * 2);
  expect(a.acts).toBe(true);
  expect(a.terms.length).toBe(2);
});

test('nothing new begins before the work of the last term has ended', async () => {
  const { a, b } = await startTwo();
  a.slowToStop = true;
  a.reachable = false;
  await pass(timing.leaseMs + timing.retryMs * 2);
  a.reachable = true;
  await b.elector.stop();
  await pass(60_000, [a]);
  expect(a.terms.length).toBe(1);
  a.slowToStop = false;
  a.finishWork?.();
  await pass(timing.retryMs * 2, [a]);
  expect(a.terms.length).toBe(2);
  expect(a.acts).toBe(true);
});

test('a lease that is deleted by hand comes back, without a second leader', async () => {
  const { api, a, b } = await startTwo();
  await api.delete(leases, key);
  await pass(30_000);
  expect([a.acts, b.acts]).toEqual([true, false]);
  expect((await api.get(leases, key))?.spec?.holderIdentity).toBe('a');
});

test('outside of a term nothing is written, and what waits for an answer gives up', async () => {
  const api = new InMemoryKubeApi();
  const over = new AbortController();
  let held = true;
  const check = () => {
    if (!held) throw new UnderstudyError('NotReady', 'over');
  };
  const guarded = apiWithin({ isHeld: () => held, check, over: over.signal }, api);
  const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'x', namespace: 'default' } };
  await guarded.create(configMaps, object);
  const { promise } = Promise.withResolvers<never>();
  const waiting = apiWithin({ isHeld: () => held, check, over: over.signal }, { ...guarded, patch: () => promise });
  const patched = waiting.patch(configMaps, { namespace: 'default', name: 'x' }, {});
  held = false;
  over.abort(new UnderstudyError('NotReady', 'over'));
  await expect(patched).rejects.toThrow('over');
  await expect(guarded.delete(configMaps, { namespace: 'default', name: 'x' })).rejects.toThrow('over');
  expect(await guarded.get(configMaps, { namespace: 'default', name: 'x' })).toBeDefined();
});
