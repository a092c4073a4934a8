import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { PeerIdentity } from '../../common/peer-identity.ts';
import { HttpAgentClient } from '../../operator/agent-client/http-agent-client.ts';
import { type Daemon, startDaemon } from '../kubernetes/control-plane/daemon.ts';
import { projectDirectory } from '../kubernetes/control-plane.ts';
import { TestAuthority } from '../support/certificates.ts';
import { NbdTestClient } from '../support/nbd-client.ts';
import { isInstalled } from '../support/programs.ts';
import { waitFor } from '../support/wait-for.ts';
import { sizeBytes, volume } from './cluster.ts';

/**
 * Two agents in network namespaces of their own, with two networks between them: that of the nodes, a bridge of this machine,
 * at which their API is reached, and one cable for mirrors.
 */
const names = { a: `us${process.pid}a`, b: `us${process.pid}b`, bridge: `us${process.pid}n` };
const nodeAddress = { a: '10.98.77.1', b: '10.98.77.2' };
const mirrorAddress = { a: '10.99.77.1', b: '10.99.77.2' };
type End = 'a' | 'b';
const ends: readonly End[] = ['a', 'b'];

function ip(...args: string[]): string {
  return execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

function makeNetworks(): void {
  ip('link', 'add', names.bridge, 'type', 'bridge');
  ip('addr', 'add', '10.98.77.254/24', 'dev', names.bridge);
  ip('link', 'set', names.bridge, 'up');
  for (const end of ends) {
    ip('netns', 'add', names[end]);
    ip('link', 'add', `${names[end]}0`, 'type', 'veth', 'peer', 'name', 'node', 'netns', names[end]);
    ip('link', 'set', `${names[end]}0`, 'master', names.bridge, 'up');
  }
  ip('-n', names.a, 'link', 'add', 'mirror', 'type', 'veth', 'peer', 'name', 'mirror', 'netns', names.b);
  for (const end of ends) {
    ip('-n', names[end], 'addr', 'add', `${nodeAddress[end]}/24`, 'dev', 'node');
    ip('-n', names[end], 'addr', 'add', `${mirrorAddress[end]}/24`, 'dev', 'mirror');
    for (const link of ['lo', 'node', 'mirror']) ip('-n', names[end], 'link', 'set', link, 'up');
  }
}

function removeNetworks(): void {
  for (const args of [...ends.map((end) => ['netns', 'del', names[end]]), ['link', 'del', names.bridge]]) {
    try {
      ip(...args);
    } catch {
      // It was not made.
    }
  }
}

function canMakeNetworks(): boolean {
  if (process.getuid?.() !== 0 || !isInstalled('ip')) return false;
  try {
    makeNetworks();
    return true;
  } catch {
    return false;
  } finally {
    removeNetworks();
  }
}

/** Bytes that have come in over a network interface. */
function receivedBytes(end: End, link: 'node' | 'mirror'): number {
  const [found] = JSON.parse(ip('-n', names[end], '-j', '-s', 'link', 'show', link)) as [
    { stats64: { rx: { bytes: number } } },
  ];
  return found.stats64.rx.bytes;
}

describe.skipIf(!canMakeNetworks())('mirrors with a network of their own', () => {
  let authority: TestAuthority;
  let directory: string;
  const daemons: Daemon[] = [];

  beforeAll(async () => {
    makeNetworks();
    authority = await TestAuthority.create();
    directory = await mkdtemp(join(tmpdir(), 'us-'));
  });
  afterAll(async () => {
    for (const daemon of daemons) await daemon.stop('SIGTERM');
    removeNetworks();
    await authority?.remove();
    if (directory) await rm(directory, { recursive: true });
  });

  async function certificateFiles(of: PeerIdentity, folder: string) {
    const { cert, key } = await authority.issue(of);
    const files = { ca: join(folder, 'ca.pem'), cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') };
    for (const [file, text] of [
      [files.ca, authority.ca],
      [files.cert, cert],
      [files.key, key],
    ] as const) {
      await writeFile(file, text);
    }
    return files;
  }

  async function start(end: End, network: string): Promise<Daemon> {
    const folder = join(directory, `${end}-${daemons.length}`);
    await mkdir(join(folder, 'main'), { recursive: true });
    const config = {
      node: `node-${end}`,
      stateDirectory: join(folder, 'state'),
      pools: [{ name: 'main', directory: join(folder, 'main') }],
      api: { listen: '0.0.0.0:7071' },
      mirror: { listen: '0.0.0.0:7072', network },
      nbd: { directory: join(folder, 'nbd') },
      attach: 'none',
      tls: await certificateFiles({ role: 'node', name: `node-${end}` }, folder),
    };
    await writeFile(join(folder, 'agent.yaml'), JSON.stringify(config));
    const agent = [join(projectDirectory, 'bin', 'understudy.ts'), 'agent', '--config', join(folder, 'agent.yaml')];
    const command = ['ip', 'netns', 'exec', names[end], process.execPath, ...agent];
    const daemon = startDaemon(`agent ${end}`, command, { logFile: join(folder, 'agent.log') });
    daemons.push(daemon);
    return daemon;
  }

  async function clientOf(end: End): Promise<HttpAgentClient> {
    const tls = { ca: authority.ca, ...(await authority.issue({ role: 'operator', name: 'test' })) };
    const client = new HttpAgentClient({ node: `node-${end}`, url: `https://${nodeAddress[end]}:7071`, tls });
    let refusal: unknown;
    const answers = () =>
      client.listVolumes().then(
        () => true,
        (error: unknown) => {
          refusal = error;
          return false;
        },
      );
    await waitFor(answers, { timeoutMs: 60_000 }).catch(() => {
      throw new Error(`the agent of ${end} does not answer:\n${daemons.map((daemon) => daemon.logTail()).join('\n')}`, {
        cause: refusal,
      });
    });
    return client;
  }

  test('all that is written goes over it, with certificates that know nothing of it', async () => {
    // One after the other: the authority issues one certificate at a time.
    for (const end of ends) await start(end, '10.99.0.0/16');
    const a = await clientOf('a');
    const b = await clientOf('b');
    const { mirrorAddress: address } = await b.getNode();
    expect(address).toBe(`${mirrorAddress.b}:7072`);
    const common = { size: sizeBytes, pool: 'main', epoch: 1, uid: 'uid-1' } as const;
    await b.putVolume(volume, { ...common, role: 'standby' });
    const mirrors = [{ name: 'b', address, mode: 'synchronous' as const }];
    const { nbd: socket } = await a.putVolume(volume, { ...common, role: 'primary', mirrors });
    const inSync = async () => (await a.getVolume(volume))?.mirrors[0]?.state === 'InSync';
    await waitFor(inSync, { timeoutMs: 60_000, what: 'the mirror in sync' });

    const before = { mirror: receivedBytes('b', 'mirror'), node: receivedBytes('b', 'node') };
    const nbd = await NbdTestClient.connect(socket, { exportName: volume });
    for (let at = 0; at < sizeBytes; at += 1024 * 1024) await nbd.write(at, Buffer.alloc(1024 * 1024, 7));
    await nbd.flush();
    nbd.close();
    expect(receivedBytes('b', 'mirror') - before.mirror).toBeGreaterThan(sizeBytes);
    expect(receivedBytes('b', 'node') - before.node).toBeLessThan(sizeBytes / 16);
  });

  test('a node that has no address in it does not start, and says which it has', async () => {
    const daemon = await start('a', '10.97.0.0/16');
    await waitFor(() => !daemon.running(), { timeoutMs: 60_000 });
    expect(daemon.logTail()).toContain('this node has no address in 10.97.0.0/16, only');
    expect(daemon.logTail()).toContain('10.99.77.1 (mirror)');
  });
});
