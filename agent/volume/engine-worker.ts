/** The thread of one volume: starts its engine, and carries out what the main thread asks. */
import { randomUUID } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { systemClock } from '../../common/clock.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import { DiskDirectory } from '../store/disk-directory.ts';
import { ArbiterPort } from './arbiter-port.ts';
import {
  type CallMessage,
  type EngineCalls,
  type EngineThreadData,
  type ThreadMessage,
  toPortable,
} from './engine-calls.ts';
import { adoptMirror, connectMirror } from './mirror-connector.ts';
import { goAhead } from './mirror-preamble.ts';
import { portLog } from './port-log.ts';
import { VolumeEngine } from './volume-engine.ts';
import type { VolumeFolders } from './volume-stack.ts';

const data = workerData as EngineThreadData;
let linkTls = data.tls;
let { peers } = data.record;

function post(message: ThreadMessage): void {
  parentPort?.postMessage(message);
}

const arbiterPort = new ArbiterPort(post);
const log = portLog({ volume: data.record.volume }, post);

/** A buffer whose folder cannot be opened does not keep the volume from starting. */
async function openFolders(): Promise<VolumeFolders> {
  const { dataDirectory, bufferDirectory } = data;
  const folder = await DiskDirectory.open(dataDirectory);
  if (bufferDirectory === undefined) return { data: folder, buffer: undefined, inPool };
  try {
    return { data: folder, buffer: await DiskDirectory.open(bufferDirectory), inPool };
  } catch (error) {
    return { data: folder, buffer: undefined, bufferFailure: errorMessage(error), inPool };
  }
}

async function inPool(pool: string): Promise<DiskDirectory> {
  const directory = data.poolDirectories[pool];
  if (directory === undefined) throw new UnderstudyError('NotFound', `no pool ${pool} on this node`);
  return DiskDirectory.open(directory);
}

async function startEngine(): Promise<VolumeEngine> {
  return VolumeEngine.start({
    record: data.record,
    folders: await openFolders(),
    socket: data.socket,
    connect: (address, volume) => connectMirror(address, volume, linkTls, peers),
    connectForRestore: (address, volume) => connectMirror(address, volume, linkTls, peers, 'restore'),
    connectForFilling: ({ address, volume, node }) =>
      connectMirror(address, volume, linkTls, node === undefined ? undefined : [node], 'fill'),
    clock: systemClock,
    timing: data.timing,
    resyncBytesPerSecond: data.resyncBytesPerSecond,
    log,
    newId: randomUUID,
    arbiter: data.arbiter ? arbiterPort.arbiter : undefined,
  });
}

type Handlers = { [Method in keyof EngineCalls]: (...parameters: Parameters<EngineCalls[Method]>) => unknown };

function handlersOf(engine: VolumeEngine): Handlers {
  return {
    view: () => engine.view(),
    statistics: () => engine.statistics(),
    record: () => engine.record,
    liveConnections: () => engine.liveConnections,
    changeLive: async (change) => {
      // Before any link is made anew: the change may be about a mirror on a node that is new.
      peers = change.peers ?? peers;
      await engine.changeLive(change);
    },
    changeRole: async (spec) => {
      peers = spec.peers ?? peers;
      await engine.changeRole(spec).finally(() => {
        peers = engine.record.peers;
      });
    },
    arbiterAnswered: (id, answer) => arbiterPort.answered(id, answer),
    prepare: (epoch) => engine.prepare(epoch),
    verify: (request) => engine.primary('verified').verify(request),
    stopVerification: (mirror) => engine.primary('verified').stopVerification(mirror),
    beginRestore: (request) => engine.restore.begin(request),
    giveUpRestore: () => engine.restore.giveUp(),
    hold: (snapshot, hold, request) => engine.holds.hold(snapshot, hold, request),
    releaseHold: (snapshot, hold) => engine.holds.release(snapshot, hold),
    acceptMirror: async (descriptor, purpose) => {
      const allowed = purpose === 'fill' ? engine.holds.nodes : peers;
      const connection = await adoptMirror(descriptor, goAhead, linkTls, allowed);
      if (purpose === 'restore') engine.restore.accept(connection);
      else if (purpose === 'fill') engine.restore.accept(connection, engine.holds);
      else engine.acceptMirror(connection);
    },
    waitForLull: (lull) => engine.waitForLull(lull),
    holdAcknowledgements: (attempt, deadlineMs) => engine.holdAcknowledgements(attempt, deadlineMs),
    releaseAcknowledgements: (attempt) => engine.releaseAcknowledgements(attempt),
    beginSnapshot: (snapshot, mirror, frozenUntilMs, within) =>
      engine.beginSnapshot(snapshot, mirror, frozenUntilMs, within),
    finishSnapshot: (attempt) => engine.finishSnapshot(attempt),
    snapshot: (name) => engine.snapshot(name),
    deleteSnapshot: (name) => engine.deleteSnapshot(name),
    isBlank: () => engine.isBlank(),
    openScratch: (snapshot, mount) => engine.openScratch(snapshot, mount),
    releaseScratch: (snapshot, mount) => engine.releaseScratch(snapshot, mount),
    setTls: (tls) => {
      linkTls = tls;
    },
    stop: () => engine.stop(),
  };
}

async function answer(handlers: Handlers, { id, method, parameters }: CallMessage): Promise<void> {
  try {
    const handler = handlers[method] as (...parameters: readonly unknown[]) => unknown;
    post({ type: 'result', id, value: await handler(...parameters) });
  } catch (error) {
    post({ type: 'error', id, error: toPortable(error) });
  }
}

async function main(): Promise<void> {
  try {
    const handlers = handlersOf(await startEngine());
    parentPort?.on('message', (call: CallMessage) => void answer(handlers, call));
    post({ type: 'started' });
  } catch (error) {
    log.error({ error: errorMessage(error) }, 'the volume cannot be started');
    post({ type: 'startFailed', error: toPortable(error) });
    parentPort?.close();
  }
}

await main();
