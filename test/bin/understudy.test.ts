import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { waitFor } from '../support/wait-for.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const command = join(root, 'bin/understudy.ts');
const { version }: { version: string } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

let directory: string;
/** Of all tests but one: with it a start takes a fraction of the time. */
let compileCache: string;
const running = new Set<ChildProcess>();

beforeAll(async () => {
  compileCache = await mkdtemp(join(tmpdir(), 'understudy-bin-cache-'));
});

afterAll(() => rm(compileCache, { recursive: true }));

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'understudy-bin-'));
});

afterEach(async () => {
  for (const child of running) {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }
  running.clear();
  await rm(directory, { recursive: true });
});

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function environment(): NodeJS.ProcessEnv {
  const { NODE_OPTIONS: _, ...rest } = process.env;
  return {
    ...rest,
    PATH: `${dirname(process.execPath)}:${rest.PATH}`,
    HOME: directory,
    NODE_COMPILE_CACHE: compileCache,
  };
}

function start(args: readonly string[], env = environment()): ChildProcess {
  const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  return child;
}

async function outcomeOf(child: ChildProcess): Promise<Outcome> {
  const [stdout, stderr] = await Promise.all(
    [child.stdout, child.stderr].map((stream) => (stream ? text(stream) : '')),
  );
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return { status: child.exitCode, stdout: stdout ?? '', stderr: stderr ?? '' };
}

function run(...args: string[]): Promise<Outcome> {
  return outcomeOf(start(args));
}

async function writeConfig(name: string, changes: Record<string, unknown> = {}): Promise<string> {
  const path = join(directory, `${name}.yaml`);
  const config = {
    node: name,
    stateDirectory: join(directory, 'state'),
    pools: [{ name: 'main', directory: join(directory, 'main') }],
    api: { listen: '127.0.0.1:0' },
    mirror: { listen: '127.0.0.1:0' },
    nbd: { directory: join(directory, 'nbd') },
    attach: 'none',
    tls: { insecure: true },
    ...changes,
  };
  await writeFile(path, JSON.stringify(config));
  return path;
}

/** An agent that has said where its API listens. */
async function startAgent(config: string): Promise<{ child: ChildProcess; url: string; ended: Promise<Outcome> }> {
  const child = start(['agent', '--config', config]);
  let output = '';
  child.stdout?.on('data', (chunk) => {
    output += chunk;
  });
  const ended = outcomeOf(child);
  const port = await waitFor(
    () => {
      if (child.exitCode !== null) throw new Error(`the agent ended: ${output}`);
      return /"api":\{"host":"127.0.0.1","port":(\d+)\}/.exec(output)?.[1];
    },
    { timeoutMs: 30_000, what: 'the agent to listen' },
  );
  return { child, url: `http://127.0.0.1:${port}`, ended };
}

describe('the command line', () => {
  test('tells its version', async () => {
    expect(await run('--version')).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' });
  });

  test.each([
    [[], 1, 'Usage: understudy'],
    [['agnet'], 1, "unknown command 'agnet'"],
    [['agent'], 1, "required option '--config <file>' not specified"],
    [['agent', '--config', 'x', '--verbose'], 1, "unknown option '--verbose'"],
  ])('%j is refused with what is wrong', async (args, status, message) => {
    const outcome = await run(...args);
    expect(outcome).toMatchObject({ status, stdout: '' });
    expect(outcome.stderr).toContain(message);
  });

  test('npm exec finds it, and runs it with the node of the project', async () => {
    const stdout = await new Promise((resolve, reject) => {
      const options = { cwd: root, env: { ...environment(), PATH: '/usr/local/bin:/usr/bin:/bin' } };
      execFile('npm', ['exec', '--', 'understudy', '--version'], options, (error, out) => {
        if (error) reject(error);
        else resolve(out);
      });
    });
    expect(stdout).toBe(`${version}\n`);
  });

  test('compiled code is cached where only this user can write', async () => {
    const { NODE_COMPILE_CACHE: _, ...env } = environment();
    expect(await outcomeOf(start(['--version'], env))).toMatchObject({ status: 0 });
    const cache = join(directory, '.cache', 'understudy', 'compiled');
    expect(await readdir(cache)).not.toEqual([]);
  });
});

describe('a bad configuration ends the agent with status 1 and a message without a stack trace', () => {
  test('one that is not there', async () => {
    expect(await run('agent', '--config', '/nowhere.yaml')).toEqual({
      status: 1,
      stdout: '',
      stderr:
        'understudy: cannot read the configuration file /nowhere.yaml: ' +
        "ENOENT: no such file or directory, open '/nowhere.yaml'\n",
    });
  });

  test('one with mistakes', async () => {
    const path = join(directory, 'agent.yaml');
    await writeFile(path, 'node: a\nstateDirectory: state\nnbd: { directory: /run/nbd }\nattach: off\n');
    expect(await run('agent', '--config', path)).toEqual({
      status: 1,
      stdout: '',
      stderr: [
        `understudy: ${path} is not a valid configuration:`,
        '  pools: missing: expected a list',
        '  api: missing: expected an object',
        '  mirror: missing: expected an object',
        '  tls: missing: expected an object',
        '  line 2: stateDirectory: expected an absolute path, got "state"',
        '  line 4: attach: expected "auto", "nbd", "fuse" or "none", got "off"',
        '',
      ].join('\n'),
    });
  });

  test('one with certificates that are not there', async () => {
    const config = await writeConfig('a', { tls: { ca: '/no/ca', cert: '/no/cert', key: '/no/key' } });
    const { status, stderr } = await run('agent', '--config', config);
    expect(status).toBe(1);
    expect(stderr).toBe(
      "understudy: cannot read /no/ca (tls.ca of the configuration): ENOENT: no such file or directory, open '/no/ca'\n",
    );
  });

  test('an arbiter that can be reached in a pod only, outside of one', async () => {
    const config = await writeConfig('a', { arbiter: 'kubernetes' });
    const { status, stderr } = await run('agent', '--config', config);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^understudy: arbiter: kubernetes without kubernetes.kubeconfig works in a pod only/);
  });
});

describe('a bad configuration ends the operator in the same way', () => {
  test('one with mistakes', async () => {
    const path = join(directory, 'operator.yaml');
    await writeFile(path, 'namespce: default\n');
    expect(await run('operator', '--config', path)).toEqual({
      status: 1,
      stdout: '',
      stderr: [
        `understudy: ${path} is not a valid configuration:`,
        '  line 1: namespce: unknown key "namespce"; did you mean "namespace"?',
        '',
      ].join('\n'),
    });
  });

  test('one whose kubeconfig is not there', async () => {
    const path = join(directory, 'operator.yaml');
    await writeFile(path, 'kube: { kubeconfig: /nowhere/kubeconfig }\n');
    const { status, stderr } = await run('operator', '--config', path);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^understudy: cannot read \/nowhere\/kubeconfig \(kube\.kubeconfig\): ENOENT.*\n$/);
  });
});

describe('an agent', () => {
  test.each(['SIGTERM', 'SIGINT'] as const)('serves its API until %s, and ends with status 0', async (signal) => {
    const { child, url, ended } = await startAgent(await writeConfig('a'));
    // It answers before everything has been recovered.
    await waitFor(async () => (await fetch(`${url}/readyz`)).status === 200, { timeoutMs: 30_000 });
    child.kill(signal);
    const { status, stderr } = await ended;
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    await expect(fetch(`${url}/healthz`)).rejects.toThrow();
  });

  test('keeps a second one out of its state, and lets the next one in after kill -9', async () => {
    const config = await writeConfig('a');
    const first = await startAgent(config);
    const second = await run('agent', '--config', config);
    expect(second.status).toBe(1);
    expect(second.stderr).toBe(
      `understudy: another agent (pid ${first.child.pid}) uses the state directory already: ` +
        `it holds ${join(directory, 'state', 'agent.lock')}; stop it first\n`,
    );
    first.child.kill('SIGKILL');
    await first.ended;
    const third = await startAgent(config);
    expect((await fetch(`${third.url}/healthz`)).status).toBe(200);
  });

  test('waits for its first certificate, for as long as it takes, and ends when it is told to', async () => {
    const enrollment = {
      url: 'https://127.0.0.1:9',
      caFile: join(directory, 'ca.crt'),
      tokenFile: join(directory, 'token'),
      directory: join(directory, 'tls'),
    };
    const child = start(['agent', '--config', await writeConfig('a', { tls: { enrollment } })]);
    let output = '';
    child.stdout?.on('data', (piece) => {
      output += piece;
    });
    // It looks again and again, although it listens nowhere.
    await waitFor(() => output.split('cannot read the authorities').length > 3, { timeoutMs: 60_000 });
    child.kill('SIGTERM');
    const [status] = await once(child, 'exit');
    expect(status).toBe(1);
  });

  test('that cannot listen says where', async () => {
    const { url } = await startAgent(await writeConfig('a'));
    const { host } = new URL(url);
    const other = await writeConfig('b', {
      stateDirectory: join(directory, 'state-b'),
      pools: [{ name: 'main', directory: join(directory, 'main-b') }],
      nbd: { directory: join(directory, 'nbd-b') },
      api: { listen: host },
    });
    const { status, stderr } = await run('agent', '--config', other);
    expect(status).toBe(1);
    expect(stderr).toContain(`understudy: cannot listen on ${host} (api.listen): `);
    expect(stderr).toContain('EADDRINUSE');
    expect(stderr).not.toContain('    at ');
  });

  test('does not load the client of the Kubernetes API', async () => {
    const loaded = await loadedModules();
    expect(loaded.some((url) => url.includes('/agent/main.ts'))).toBe(true);
    expect(loaded.filter((url) => /@kubernetes|\/operator\//.test(url))).toEqual([]);
  });
});

/** The modules that the agent's part of the command loads. */
async function loadedModules(): Promise<string[]> {
  const script = `
    import { registerHooks } from 'node:module';
    const urls = [];
    registerHooks({ load(url, context, next) { urls.push(url); return next(url, context); } });
    await import(${JSON.stringify(new URL('../../bin/agent-service.ts', import.meta.url).href)});
    console.log(JSON.stringify(urls));`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return JSON.parse(await text(child.stdout));
}
