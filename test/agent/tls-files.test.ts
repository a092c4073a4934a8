import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { TlsMaterial } from '../../agent/api/listener.ts';
import { readTlsFiles, watchTlsFiles } from '../../agent/tls-files.ts';
import type { Clock } from '../../common/clock.ts';
import { silentLog } from '../../common/log.ts';
import { TestAuthority } from '../support/certificates.ts';
import { waitFor } from '../support/wait-for.ts';

let authority: TestAuthority;
let directory: string;

beforeAll(async () => {
  authority = await TestAuthority.create();
});

afterAll(() => authority.remove());

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'understudy-tls-'));
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

async function writeFiles(material: Partial<TlsMaterial>) {
  for (const [name, text] of Object.entries(material)) await writeFile(join(directory, `${name}.pem`), text);
  return { ca: join(directory, 'ca.pem'), cert: join(directory, 'cert.pem'), key: join(directory, 'key.pem') };
}

async function issue(): Promise<TlsMaterial> {
  return { ca: authority.ca, ...(await authority.issue({ role: 'node', name: 'node-a' })) };
}

/** A clock whose timers fire when the test says so. */
class ManualClock implements Clock {
  readonly #pending = new Set<() => void>();

  wallTimeMs(): number {
    return 0;
  }

  monotonicMs(): number {
    return 0;
  }

  after(_delayMs: number, callback: () => void) {
    this.#pending.add(callback);
    return { cancel: () => void this.#pending.delete(callback) };
  }

  soon(callback: () => void): void {
    setImmediate(callback);
  }

  /** Waits until a timer is pending, then fires it. */
  async fire(): Promise<void> {
    const [callback] = await waitFor(() => (this.#pending.size > 0 ? [...this.#pending] : undefined), {
      timeoutMs: 10_000,
    });
    if (callback === undefined) return;
    this.#pending.delete(callback);
    callback();
  }

  get pending(): number {
    return this.#pending.size;
  }
}

test('the files are read', async () => {
  const material = await issue();
  expect(await readTlsFiles(await writeFiles(material))).toEqual(material);
  expect(await readTlsFiles({ insecure: true })).toBeUndefined();
});

test('a file that is missing is named with its key', async () => {
  const files = await writeFiles(await issue());
  await rm(files.cert);
  await expect(readTlsFiles(files)).rejects.toMatchObject({
    code: 'Invalid',
    message: `cannot read ${files.cert} (tls.cert of the configuration)`,
  });
});

test('files that do not fit together are refused', async () => {
  const [first, second] = [await issue(), await issue()];
  await expect(readTlsFiles(await writeFiles({ ...first, key: second.key }))).rejects.toMatchObject({
    code: 'Invalid',
  });
  await expect(readTlsFiles(await writeFiles({ ...first, cert: 'nothing' }))).rejects.toMatchObject({
    code: 'Invalid',
  });
});

test('renewed files are noticed when they fit, once', async () => {
  const [first, second] = [await issue(), await issue()];
  const files = await writeFiles(first);
  const clock = new ManualClock();
  const changes: TlsMaterial[] = [];
  const timer = watchTlsFiles(files, first, { clock, log: silentLog, onChange: (material) => changes.push(material) });
  await clock.fire();
  await writeFiles({ key: second.key });
  await clock.fire();
  await waitFor(() => clock.pending > 0, { timeoutMs: 10_000 });
  expect(changes).toEqual([]);
  await writeFiles(second);
  await clock.fire();
  await clock.fire();
  await waitFor(() => clock.pending > 0, { timeoutMs: 10_000 });
  expect(changes).toEqual([second]);
  timer.cancel();
  expect(clock.pending).toBe(0);
});

test('without certificates there is nothing to watch', () => {
  const clock = new ManualClock();
  watchTlsFiles({ insecure: true }, undefined, { clock, log: silentLog, onChange: () => undefined });
  expect(clock.pending).toBe(0);
});
