/**
 * What the kernel's nbd driver and the agent do together, seen from inside a machine that has that driver. Run by
 * vm.test.ts through `boot`; takes the names of stories, all without them, and writes /out/results.json: for each its
 * error, or null.
 *
 * An agent takes half a minute to start here, so the stories share one death of it: each begins while it lives, may do
 * something while it is gone, and ends when the next one is there.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { SystemCommands } from '../../agent/attach/commands.ts';
import type { AttachableExport } from '../../agent/attach/export-source.ts';
import { NbdDriver } from '../../agent/attach/nbd-driver.ts';
import { NbdServer } from '../../agent/nbd/server.ts';
import { systemClock } from '../../common/clock.ts';
import { silentLog } from '../../common/log.ts';
import { MemoryDevice } from '../support/memory-device.ts';
import { waitFor } from '../support/wait-for.ts';
import { GuestAgent, patienceMs } from './guest-agent.ts';

interface Mount {
  readonly volume: string;
  readonly device: string;
  readonly readOnly: boolean;
}
interface Volume {
  readonly state: string;
  readonly nbd: string;
  readonly mirrors: readonly { readonly state: string }[];
}

const a = new GuestAgent('node-a', 7071);
const b = new GuestAgent('node-b', 7081);
const size = 32 * 1024 * 1024;
const common = { size, pool: 'main', epoch: 1, provisioning: 'sparse' };

const pair = { ...common, uid: 'uid-2' };

interface Story {
  begin(): Promise<void>;
  whileGone?(): Promise<void>;
  end(): Promise<void>;
}

/** fio verifies what it writes to a mounted filesystem while the agent is killed and started again. */
class Survives implements Story {
  #device = '';
  #fio: Program | undefined;
  #writtenBefore = 0;
  #logged = 0;

  async begin(): Promise<void> {
    this.#logged = kernelLog().length;
    await a.call('PUT', '/v1/volumes/one', { ...common, role: 'primary', uid: 'uid-1' });
    this.#device = (await mountAt(a, 'one', '/tmp/one')).device;
    assert.match(this.#device, /^\/dev\/nbd\d+$/);
    assert.equal(blockSizeOf(this.#device), 512);
    const job = ['--name=verify', '--directory=/tmp/one', '--size=4m', '--bs=4k', '--rw=randwrite', '--direct=1'];
    const check = ['--fsync=8', '--rate_iops=30', '--verify=crc32c', '--do_verify=1', '--verify_fatal=1', '--thread'];
    this.#fio = new Program('fio', [...job, ...check]);
    const begun = writtenBy(this.#device);
    await until('fio to write', () => writtenBy(this.#device) > begun + 100);
  }

  async whileGone(): Promise<void> {
    this.#writtenBefore = writtenBy(this.#device);
    assert.ok(this.#fio?.isRunning, 'fio is in the middle of its work');
  }

  async end(): Promise<void> {
    const { exitCode, output } = (await this.#fio?.ended) ?? { exitCode: null, output: 'fio did not start' };
    assert.equal(exitCode, 0, output);
    assert.ok(writtenBy(this.#device) > this.#writtenBefore, 'fio went on after the restart');
    await a.call('DELETE', '/v1/volumes/one/mounts/m');
    refuseTraces(this.#device, '/tmp/one');
    refuseIoErrors(this.#device, this.#logged);
    await checkFilesystem('one');
  }
}

/** A volume with blocks of 4096 bytes, and a snapshot of it mounted read-only beside it. */
class Snapshot implements Story {
  #live = '';
  #scratch = '';
  #logged = 0;

  async begin(): Promise<void> {
    this.#logged = kernelLog().length;
    const buffer = { pool: 'buffer', capacity: '16Mi' };
    await a.call('PUT', '/v1/volumes/four', { ...common, role: 'primary', blockSize: 4096, buffer });
    this.#live = (await mountAt(a, 'four', '/tmp/live')).device;
    writeFileSync('/tmp/live/file', 'old', { flush: true });
    await a.call('PUT', '/v1/volumes/four/snapshots/s1', { freeze: {} });
    writeFileSync('/tmp/live/file', 'new', { flush: true });
    const path = '/v1/volumes/four/snapshots/s1/mounts/backup';
    const view = await a.call<Mount>('PUT', path, { target: '/tmp/backup' });
    this.#scratch = view.device;
    assert.equal(view.readOnly, true);
    this.#check();
  }

  async end(): Promise<void> {
    writeFileSync('/proc/sys/vm/drop_caches', '3');
    this.#check();
    writeFileSync('/tmp/live/other', 'written after the restart', { flush: true });
    await a.call('DELETE', '/v1/volumes/four/snapshots/s1/mounts/backup');
    await a.call('DELETE', '/v1/volumes/four/mounts/m');
    for (const device of [this.#live, this.#scratch]) refuseIoErrors(device, this.#logged);
    refuseTraces(this.#live, '/tmp/live');
    refuseTraces(this.#scratch, '/tmp/backup');
    await checkFilesystem('four');
  }

  #check(): void {
    assert.equal(readFileSync('/tmp/backup/file', 'utf8'), 'old');
    assert.equal(readFileSync('/tmp/live/file', 'utf8'), 'new');
    assert.throws(() => writeFileSync('/tmp/backup/file', 'changed'), { code: 'EROFS' });
    for (const device of [this.#live, this.#scratch]) assert.equal(blockSizeOf(device), 4096);
  }
}

/**
 * What writes to a mounted volume, and a program that takes all the memory it gets, share a control group with less memory
 * than is written: what the kernel needs free it must write out, through the agent.
 */
class Pressure implements Story {
  readonly #group = '/sys/fs/cgroup/pressed';

  async begin(): Promise<void> {
    const logged = kernelLog().length;
    this.#limit(24 * 1024 * 1024);
    for (const flags of threadFlags(a.pid))
      assert.equal(flags & ioFlusher, ioFlusher, 'every thread is an I/O flusher');
    await a.call('PUT', '/v1/volumes/pressed', { ...common, size: 2 * size, role: 'primary', uid: 'uid-4' });
    const { device } = await mountAt(a, 'pressed', '/tmp/pressed');
    const hog = this.#run('dd', ['if=/dev/zero', 'of=/dev/null', 'bs=12M']);
    const job = ['--name=verify', '--directory=/tmp/pressed', '--size=40m', '--bs=64k', '--rw=randwrite', '--thread'];
    const check = ['--verify=crc32c', '--do_verify=1', '--verify_fatal=1', '--end_fsync=1'];
    const { exitCode, output } = await this.#run('fio', [...job, ...check]).ended;
    assert.equal(exitCode, 0, output);
    assert.ok(hog.isRunning, 'the hog has not been killed');
    hog.end();
    await hog.ended;
    const met = /^max (\d+)$/m.exec(readFileSync(`${this.#group}/memory.events`, 'utf8'))?.[1];
    assert.ok(Number(met) > 0, 'the limit has been met');
    await a.call('DELETE', '/v1/volumes/pressed/mounts/m');
    refuseTraces(device, '/tmp/pressed');
    refuseIoErrors(device, logged);
    await a.call('DELETE', '/v1/volumes/pressed');
  }

  async end(): Promise<void> {}

  #limit(bytes: number): void {
    execFileSync('mount', ['-t', 'cgroup2', 'none', '/sys/fs/cgroup']);
    writeFileSync('/sys/fs/cgroup/cgroup.subtree_control', '+memory');
    mkdirSync(this.#group);
    writeFileSync(`${this.#group}/memory.max`, String(bytes));
  }

  /** In the control group from its first instruction on. */
  #run(program: string, args: readonly string[]): Program {
    return new Program('sh', ['-c', `echo $$ >${this.#group}/cgroup.procs; exec "$0" "$@"`, program, ...args]);
  }
}

/** PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE, which are what PR_SET_IO_FLUSHER sets. */
const ioFlusher = 0x0008_0000 | 0x0010_0000;

/** The kernel's flags of each thread of a process, see proc(5). */
function threadFlags(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).map((thread) => {
    const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8');
    // Behind the name, which may hold anything: state, five numbers, and the flags.
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[6]);
  });
}

/** A volume grows while a program writes to it, and its filesystem after it. */
class Grows implements Story {
  async begin(): Promise<void> {
    const logged = kernelLog().length;
    const volume = { ...common, role: 'primary', uid: 'uid-3' };
    await a.call('PUT', '/v1/volumes/grown', volume);
    const { device } = await mountAt(a, 'grown', '/tmp/grown');
    const job = ['--name=verify', '--directory=/tmp/grown', '--size=2m', '--bs=4k', '--rw=randwrite', '--direct=1'];
    const check = ['--rate_iops=30', '--verify=crc32c', '--do_verify=1', '--verify_fatal=1', '--thread'];
    const fio = new Program('fio', [...job, ...check]);
    const begun = writtenBy(device);
    await until('fio to write', () => writtenBy(device) > begun + 20);
    await a.call('PUT', '/v1/volumes/grown', { ...volume, size: 2 * size });
    await until('the device to grow', () => Number(attributeOf(device, 'size')) * 512 === 2 * size);
    assert.ok(fio.isRunning, 'fio is in the middle of its work');
    const { exitCode, output } = await fio.ended;
    assert.equal(exitCode, 0, output);
    execFileSync('resize2fs', [device], { stdio: 'pipe' });
    writeFileSync('/tmp/grown/large', Buffer.alloc(size + 4 * 1024 * 1024, 1), { flush: true });
    await a.call('DELETE', '/v1/volumes/grown/mounts/m');
    refuseTraces(device, '/tmp/grown');
    refuseIoErrors(device, logged);
    await checkFilesystem('grown');
    await a.call('DELETE', '/v1/volumes/grown');
  }

  async end(): Promise<void> {}
}

/** While the agent is gone its standby is promoted: the device of the old primary is cut, and what waits fails. */
class Fenced implements Story {
  #device = '';
  #file = -1;
  #dd: Program | undefined;

  async begin(): Promise<void> {
    await b.start();
    await b.call('PUT', '/v1/volumes/pair', { ...pair, role: 'standby' });
    const mirrors = [{ name: 'm', address: b.mirrorAddress, mode: 'synchronous' }];
    await a.call('PUT', '/v1/volumes/pair', { ...pair, role: 'primary', mirrors });
    const view = () => a.call<Volume>('GET', '/v1/volumes/pair');
    await until('the mirror to be in sync', async () => (await view()).mirrors[0]?.state === 'InSync');
    this.#device = (await mountAt(a, 'pair', '/tmp/pair')).device;
    writeFileSync('/tmp/pair/file', 'before', { flush: true });
    this.#file = openSync('/tmp/pair/file', 'r+');
  }

  async whileGone(): Promise<void> {
    this.#dd = new Program('dd', ['if=/dev/zero', 'of=/tmp/pair/more', 'bs=64k', 'count=8', 'oflag=direct']);
    await until('I/O to wait', () => this.#dd?.waits);
    await b.call('POST', '/v1/volumes/pair/prepare', { epoch: 2 });
    await b.call('PUT', '/v1/volumes/pair', { ...pair, role: 'primary', epoch: 2 });
  }

  async end(): Promise<void> {
    const { exitCode, output } = (await this.#dd?.ended) ?? { exitCode: 0, output: 'dd did not start' };
    assert.notEqual(exitCode, 0);
    assert.match(output, /error|Read-only/i);
    const isGone = async () => (await a.call<Mount[]>('GET', '/v1/mounts')).every(({ volume }) => volume !== 'pair');
    await until('the mount to be taken away', isGone);
    assert.throws(() => {
      writeSync(this.#file, 'after');
      fsyncSync(this.#file);
    });
    closeSync(this.#file);
    await until('the device to be gone', () => !connectedDevices().includes(this.#device));
    refuseTraces(this.#device, '/tmp/pair');
    assert.equal((await a.call<Volume>('GET', '/v1/volumes/pair')).state, 'Fenced');
    const { device } = await mountAt(b, 'pair', '/tmp/pair-b');
    assert.equal(readFileSync('/tmp/pair-b/file', 'utf8'), 'before');
    await b.call('DELETE', '/v1/volumes/pair/mounts/m');
    refuseTraces(device, '/tmp/pair-b');
  }
}

/** The driver alone, with a server that comes and goes. */
class Driver implements Story {
  async begin(): Promise<void> {
    const commands = new SystemCommands({ clock: systemClock });
    const driver = new NbdDriver({ directory: '/tmp/x', node: 'x', commands, clock: systemClock, log: silentLog });
    const binding = { uid: 'uid/1', epoch: 1 };
    const target = {
      socket: '/tmp/x.sock',
      exportName: 'x',
      sizeBytes: size,
      blockSize: 512,
      readOnly: false,
      binding,
    };
    let server = await serveMemory(target.socket);
    await this.#detachesWhenClosed(driver, target);
    await this.#refusesWrites(driver, target);
    const { device } = await driver.attach(target, { name: 'n' });
    const isAlive = async () => (await driver.list()).find(({ name }) => name === 'n')?.alive;
    assert.equal(await isAlive(), true);
    // The first to open a device waits for what the kernel reads of it: that must be over before the server goes.
    const file = await open(device, 'r+');
    await server.close();
    await until('the end of the connection to be known', async () => (await isAlive()) === false);
    const dd = new Program('dd', ['if=/dev/zero', 'bs=64k', 'count=64', 'oflag=direct'], file.fd);
    await until('I/O to wait', () => dd.waits);
    server = await serveMemory(target.socket);
    const later = { ...target, binding: { uid: 'uid/1', epoch: 2 } };
    await assert.rejects(driver.reconnect(later, { name: 'n' }), { code: 'Conflict' });
    await driver.reconnect(target, { name: 'n' });
    assert.equal((await dd.ended).exitCode, 0);
    await server.close();
    await this.#failsWhenCut(driver, device, file);
    driver.close();
  }

  async end(): Promise<void> {}

  /** While anybody has it open it stays; then it goes away by itself. */
  async #detachesWhenClosed(driver: NbdDriver, target: AttachableExport): Promise<void> {
    const { device } = await driver.attach(target, { name: 'n' });
    // Not in this thread: it serves what the kernel reads of a new device.
    const file = await open(device);
    await assert.rejects(driver.detach('n'), { code: 'InUse' });
    await file.close();
    assert.deepEqual(await driver.list(), []);
    await driver.detach('n');
    refuseTraces(device, device);
  }

  async #refusesWrites(driver: NbdDriver, target: AttachableExport): Promise<void> {
    const { device } = await driver.attach({ ...target, readOnly: true }, { name: 'n' });
    assert.equal(attributeOf(device, 'ro'), '1');
    await driver.detach('n');
    refuseTraces(device, device);
  }

  /** I/O that waits for a server fails, and cutting does not wait itself. */
  async #failsWhenCut(driver: NbdDriver, device: string, file: FileHandle): Promise<void> {
    const dd = new Program('dd', ['if=/dev/zero', 'bs=64k', 'count=64', 'oflag=direct'], file.fd);
    await until('I/O to wait', () => dd.waits);
    await driver.cut('n');
    const { exitCode, output } = await dd.ended;
    assert.notEqual(exitCode, 0);
    assert.match(output, /Input\/output error/);
    await file.close();
    assert.deepEqual(await driver.abandon('n'), { remaining: [] });
    refuseTraces(device, device);
  }
}

function serveMemory(path: string): Promise<NbdServer> {
  const openExport = async () => ({
    device,
    readOnly: false,
    multiConn: true,
    contexts: new Map(),
    close: async () => {},
  });
  const device = new MemoryDevice(size);
  return NbdServer.listen({ path, exports: { list: () => ['x'], open: openExport }, log: silentLog });
}

function until(what: string, condition: () => Promise<boolean | undefined> | boolean | undefined): Promise<unknown> {
  return waitFor(condition, { timeoutMs: patienceMs, intervalMs: 50, what });
}

function mountAt(agent: GuestAgent, volume: string, target: string): Promise<Mount> {
  return agent.call('PUT', `/v1/volumes/${volume}/mounts/m`, { target, format: true });
}

/** A program that runs beside, with what it says. */
class Program {
  readonly #child: ChildProcess;
  readonly ended: Promise<{ exitCode: number | null; output: string }>;

  /** @param stdout where it writes to, if that is not to be seen */
  constructor(program: string, args: readonly string[], stdout: 'pipe' | number = 'pipe') {
    const child = spawn(program, args, { stdio: ['ignore', stdout, 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (text) => (output += String(text)));
    this.#child = child;
    this.ended = new Promise((resolve) => child.once('close', (exitCode) => resolve({ exitCode, output })));
  }

  end(): void {
    this.#child.kill('SIGKILL');
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null;
  }

  /**
   * It sleeps uninterruptibly in write(2) to its standard output, which is also what dd makes of `of=`. The sleep alone
   * would not do: a program that is still being loaded, or opens the device, sleeps like that too.
   */
  get waits(): boolean {
    const of = (name: string) => readFileSync(`/proc/${this.#child.pid}/${name}`, 'utf8');
    return of('syscall').startsWith('1 0x1 ') && / D /.test(of('stat'));
  }
}

/** The content of a volume that is not mounted, as its export shows it, is a clean filesystem. */
async function checkFilesystem(volume: string): Promise<void> {
  const { nbd } = await a.call<Volume>('GET', `/v1/volumes/${volume}`);
  const image = `/tmp/${volume}.image`;
  execFileSync('nbdcopy', [`nbd+unix:///${volume}?socket=${nbd}`, image]);
  execFileSync('e2fsck', ['-fn', image], { stdio: 'pipe' });
}

function attributeOf(device: string, name: string): string {
  return readFileSync(`/sys/block/${device.slice('/dev/'.length)}/${name}`, 'utf8').trim();
}

function blockSizeOf(device: string): number {
  return Number(attributeOf(device, 'queue/logical_block_size'));
}

/** Writes that a device has completed. */
function writtenBy(device: string): number {
  return Number(attributeOf(device, 'stat').split(/\s+/)[4]);
}

function connectedDevices(): string[] {
  return readdirSync('/sys/block')
    .filter((name) => ['pid', 'backend'].some((file) => existsSync(`/sys/block/${name}/${file}`)))
    .map((name) => `/dev/${name}`);
}

function refuseTraces(device: string, mountPoint: string): void {
  assert.ok(!connectedDevices().includes(device), `${device} is connected still`);
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8');
  assert.ok(!mounts.includes(` ${mountPoint} `), `${mountPoint} is mounted still`);
}

function kernelLog(): string[] {
  return execFileSync('dmesg', { encoding: 'utf8' }).split('\n');
}

/** The kernel has seen no failed I/O on a device, since its log had so many lines: numbers are used again. */
function refuseIoErrors(device: string, sinceLine: number): void {
  const name = device.slice('/dev/'.length);
  const lines = kernelLog().slice(sinceLine);
  assert.deepEqual(
    lines.filter((line) => /error|read-only/i.test(line) && line.includes(name)),
    [],
  );
}

const stories: Record<string, Story> = {
  pressure: new Pressure(),
  grows: new Grows(),
  snapshot: new Snapshot(),
  fenced: new Fenced(),
  driver: new Driver(),
  // Begins last, for what it has begun must not be done when the agent is killed.
  survives: new Survives(),
};
const wanted = process.argv.slice(2);
const results: Record<string, string | null> = {};

/** A story that has failed is not told on. */
async function tell(part: string, story: string, action: (() => Promise<void>) | undefined): Promise<void> {
  if (results[story] || action === undefined) return;
  const startedAt = performance.now();
  try {
    await action();
    results[story] = null;
  } catch (error) {
    results[story] = `${part}: ${error instanceof Error ? error.stack : error}\n${a.log()}`;
  }
  process.stdout.write(`${story} ${part}: ${Math.round(performance.now() - startedAt)} ms ${results[story] ?? ''}\n`);
  writeFileSync('/out/results.json', JSON.stringify(results));
}

const told = Object.entries(stories).filter(([name]) => wanted.length === 0 || wanted.includes(name));
process.stdout.write('starting\n');
await a.start();
process.stdout.write('started\n');
for (const [name, story] of told) await tell('begin', name, () => story.begin());
await a.kill();
for (const [name, story] of told)
  await tell('while gone', name, story.whileGone && (() => story.whileGone?.() ?? Promise.resolve()));
await a.start();
process.stdout.write('started again\n');
for (const [name, story] of told) await tell('end', name, () => story.end());
process.exit(Object.values(results).every((error) => error === null) ? 0 : 1);
