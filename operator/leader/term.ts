import type { AgentClient, AgentDirectory, AgentEntry } from '../agent-client/agent-client.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import type { ContainerRef, RunningCommand } from '../kube/pod-exec.ts';

/** A time during which this replica, and no other, changes anything. */
export interface Term {
  isHeld(): boolean;
  /** To be called immediately before every change. @throws UnderstudyError NotReady when the term is over */
  check(): void;
  /** Aborts when the term is over. */
  readonly over: AbortSignal;
}

/** The term of an operator that is alone. */
export const endlessTerm: Term = { isHeld: () => true, check: () => {}, over: new AbortController().signal };

/**
 * A Kubernetes API that changes nothing outside of a term. What was on its way at the end of the term may still arrive:
 * nobody waits for it, and it does no harm that its resourceVersion would let it do.
 */
export function apiWithin(term: Term, api: KubeApi): KubeApi {
  const change = <Answer>(send: () => Promise<Answer>): Promise<Answer> => within(term, send);
  return {
    get: (resource, key) => api.get(resource, key),
    list: (resource, scope) => api.list(resource, scope),
    watch: (resource, request, onEvent) => api.watch(resource, request, onEvent),
    create: (resource, object) => change(() => api.create(resource, object)),
    update: (resource, object) => change(() => api.update(resource, object)),
    updateStatus: (resource, object) => change(() => api.updateStatus(resource, object)),
    patch: (resource, key, patch, options) => change(() => api.patch(resource, key, patch, options)),
    delete: (resource, key, preconditions) => change(() => api.delete(resource, key, preconditions)),
    exec: (container, command) => execWithin(term, api, container, command),
  };
}

/** Starts a command if the term is held, and leaves it when the term is over. */
async function execWithin(
  term: Term,
  api: KubeApi,
  container: ContainerRef,
  command: readonly string[],
): Promise<RunningCommand> {
  term.check();
  const running = await api.exec(container, command);
  const leave = () => running.leave();
  if (term.over.aborted) leave();
  term.over.addEventListener('abort', leave, { once: true });
  const forget = () => term.over.removeEventListener('abort', leave);
  running.ended.then(forget, forget);
  return running;
}

/** Agents of which nothing is asked outside of a term that changes anything. */
export function agentsWithin(term: Term, directory: AgentDirectory): AgentDirectory {
  const clients = new WeakMap<AgentClient, AgentClient>();
  const guarded = (entry: AgentEntry): AgentEntry => {
    const client = clients.get(entry.client) ?? clientWithin(term, entry.client);
    clients.set(entry.client, client);
    return { ...entry, client };
  };
  return {
    find: (node) => {
      const entry = directory.find(node);
      return entry && guarded(entry);
    },
    entries: () => directory.entries().map(guarded),
  };
}

function clientWithin(term: Term, client: AgentClient): AgentClient {
  const change = <Answer>(send: () => Promise<Answer>): Promise<Answer> => within(term, send);
  return {
    getNode: () => client.getNode(),
    listVolumes: () => client.listVolumes(),
    getVolume: (volume) => client.getVolume(volume),
    getSnapshot: (volume, snapshot) => client.getSnapshot(volume, snapshot),
    putVolume: (volume, spec) => change(() => client.putVolume(volume, spec)),
    deleteVolume: (volume) => change(() => client.deleteVolume(volume)),
    prepare: (volume, epoch) => change(() => client.prepare(volume, epoch)),
    holdAcknowledgements: (volume, attempt) => change(() => client.holdAcknowledgements(volume, attempt)),
    releaseAcknowledgements: (volume, attempt) => change(() => client.releaseAcknowledgements(volume, attempt)),
    putHold: (volume, snapshot, hold, request) => change(() => client.putHold(volume, snapshot, hold, request)),
    deleteHold: (volume, snapshot, hold) => change(() => client.deleteHold(volume, snapshot, hold)),
    putRestore: (volume, request) => change(() => client.putRestore(volume, request)),
    giveUpRestore: (volume) => change(() => client.giveUpRestore(volume)),
    putSnapshot: (volume, snapshot, request) => change(() => client.putSnapshot(volume, snapshot, request)),
    deleteSnapshot: (volume, snapshot) => change(() => client.deleteSnapshot(volume, snapshot)),
  };
}

/** Sends a change if the term is held, and stops waiting for its answer when it is over. */
async function within<Answer>(term: Term, send: () => Promise<Answer>): Promise<Answer> {
  term.check();
  const { promise, reject } = Promise.withResolvers<never>();
  const giveUp = () => reject(term.over.reason);
  term.over.addEventListener('abort', giveUp, { once: true });
  try {
    return await Promise.race([send(), promise]);
  } finally {
    term.over.removeEventListener('abort', giveUp);
  }
}
