import { describe, expect, test } from 'vitest';
import { type AgentConfig, agentConfigSchema } from '../../agent/config.ts';
import { parseConfig } from '../../common/config.ts';
import { UnderstudyError } from '../../common/errors.ts';

const complete = `
node: node-a
stateDirectory: /var/lib/understudy
pools:
  - { name: main, directory: /var/lib/understudy/main }
  - { name: buffer, devices: [/dev/sdb, /dev/sdc] }
api:    { listen: "127.0.0.1:7071" }
mirror: { listen: "127.0.0.1:7072", advertise: "127.0.0.1:7072", resyncBytesPerSecond: 50Mi }
nbd:    { directory: /run/understudy/nbd, listen: "0.0.0.0:10809", exports: all }
attach: fuse
arbiter: kubernetes
kubernetes: { kubeconfig: /etc/understudy/kubeconfig }
tls:    { ca: /etc/tls/ca.pem, cert: /etc/tls/cert.pem, key: /etc/tls/key.pem }
csi:    { socket: /var/lib/kubelet/plugins/csi.understudy.dev/csi.sock, registration: /var/lib/kubelet/plugins_registry }
log:    { level: debug }
`;

const minimal = `
node: node-a
stateDirectory: /var/lib/understudy
pools:
  - { name: main, directory: /var/lib/understudy/main }
api:    { listen: "127.0.0.1:7071" }
mirror: { listen: "127.0.0.1:7072" }
nbd:    { directory: /run/understudy/nbd }
tls:    { insecure: true }
`;

function parse(text: string): AgentConfig {
  return parseConfig(text, 'agent.yaml', agentConfigSchema);
}

/** What is wrong with the minimal configuration after a replacement, without line numbers. */
function mistakesAfter(from: string | RegExp, to: string): string[] {
  const text = minimal.replace(from, to);
  expect(text).not.toBe(minimal);
  try {
    parse(text);
  } catch (error) {
    if (!(error instanceof UnderstudyError)) throw error;
    return error.message
      .split('\n')
      .slice(1)
      .map((line) => line.trim().replace(/^line \d+: /, ''));
  }
  throw new Error('expected the configuration to be refused');
}

test('every key is read', () => {
  expect(parse(complete)).toEqual({
    node: 'node-a',
    stateDirectory: '/var/lib/understudy',
    pools: [
      { name: 'main', directory: '/var/lib/understudy/main' },
      { name: 'buffer', devices: ['/dev/sdb', '/dev/sdc'] },
    ],
    api: { listen: '127.0.0.1:7071' },
    mirror: { listen: '127.0.0.1:7072', advertised: '127.0.0.1:7072', resyncBytesPerSecond: 52_428_800 },
    nbd: { directory: '/run/understudy/nbd', listen: '0.0.0.0:10809', exports: 'all' },
    attach: 'fuse',
    arbiter: 'kubernetes',
    kubernetes: { kubeconfig: '/etc/understudy/kubeconfig' },
    tls: { ca: '/etc/tls/ca.pem', cert: '/etc/tls/cert.pem', key: '/etc/tls/key.pem' },
    csi: {
      socket: '/var/lib/kubelet/plugins/csi.understudy.dev/csi.sock',
      registration: '/var/lib/kubelet/plugins_registry',
    },
    log: { level: 'debug' },
  });
});

test('what is left out has a default', () => {
  expect(parse(minimal)).toMatchObject({
    mirror: { listen: '127.0.0.1:7072', advertised: '127.0.0.1:7072' },
    attach: 'auto',
    arbiter: 'none',
    tls: { insecure: true },
    log: { level: 'info' },
  });
});

test('paths are normalised', () => {
  expect(parse(minimal.replace('/var/lib/understudy\n', '/var//lib/understudy/\n')).stateDirectory).toBe(
    '/var/lib/understudy',
  );
});

describe('keys', () => {
  test.each([
    [
      'node: node-a',
      'nod: node-a',
      ['node: missing: expected a string', 'nod: unknown key "nod"; did you mean "node"?'],
    ],
    ['tls:    { insecure: true }', '', ['tls: missing: expected an object']],
    [
      'api:    { listen:',
      'api:    { listn:',
      ['api.listen: missing: expected a string', 'api.listn: unknown key "listn"; did you mean "listen"?'],
    ],
    [
      'node: node-a',
      'node: Node_A',
      [
        'node: expected lower-case letters, digits, "-" and ".", beginning and ending with a letter or digit, got "Node_A"',
      ],
    ],
    [
      'tls: ',
      'attach: none\ncsi: { socket: /csi.sock }\ntls: ',
      ['attach: must not be none where there is csi, which mounts, got "none"'],
    ],
    [
      'tls: ',
      `csi: { socket: /${'x'.repeat(107)} }\ntls: `,
      [expect.stringMatching(/^csi\.socket: expected at most 107 bytes/)],
    ],
    ['tls: ', 'attach: loop\ntls: ', ['attach: expected "auto", "nbd", "fuse" or "none", got "loop"']],
    ['tls: ', 'arbiter: etcd\ntls: ', ['arbiter: expected "none" or "kubernetes", got "etcd"']],
    [
      'tls: ',
      'log: { level: loud }\ntls: ',
      ['log.level: expected "debug", "info", "warn", "error" or "silent", got "loud"'],
    ],
  ])('%s → %s', (from, to, mistakes) => {
    expect(mistakesAfter(from, to).toSorted()).toEqual(mistakes.toSorted());
  });
});

describe('directories', () => {
  test.each([
    ['/var/lib/understudy\n', 'data\n', 'stateDirectory: expected an absolute path, got "data"'],
    ['/var/lib/understudy/main', 'main', 'pools[0].directory: expected an absolute path, got "main"'],
    ['/run/understudy/nbd', '../nbd', 'nbd.directory: expected an absolute path, got "../nbd"'],
    ['/run/understudy/nbd', '/run/../nbd', 'nbd.directory: must not contain "..", got "/run/../nbd"'],
    [
      '/run/understudy/nbd',
      `/run/${'x'.repeat(60)}`,
      `nbd.directory: expected at most 60 characters, since the path of a socket in it is limited, got "/run/${'x'.repeat(60)}"`,
    ],
    [
      '/var/lib/understudy/main',
      '/var/lib/understudy/',
      'pools[0].directory: must not contain the stateDirectory, /var/lib/understudy; a directory below that is fine, got "/var/lib/understudy"',
    ],
  ])('%s → %s', (from, to, mistake) => {
    expect(mistakesAfter(from, to)).toEqual([mistake]);
  });
});

describe('pools', () => {
  const pool = '  - { name: main, directory: /var/lib/understudy/main }\n';
  test.each([
    [`${pool}  - { name: main, directory: /srv }\n`, 'pools[1].name: pool "main" is there already, as pools[0]'],
    [
      `${pool}  - { name: b, directory: /var/lib/understudy/main/ }\n`,
      'pools[1].directory: must have nothing in common with that of pool "main", got "/var/lib/understudy/main"',
    ],
    [
      '  - { name: a, devices: [/dev/sdb] }\n  - { name: b, devices: [/dev/sdc, /dev/sdb] }\n',
      'pools[1].devices: must have nothing in common with that of pool "a", got a list',
    ],
    [
      `${pool}  - { name: b, directory: /var/lib/understudy/main/b }\n`,
      'pools[1].directory: must have nothing in common with that of pool "main", got "/var/lib/understudy/main/b"',
    ],
    [
      '  - { name: a, directory: /var }\n',
      'pools[0].directory: must not contain the stateDirectory, /var/lib/understudy; a directory below that is fine, got "/var"',
    ],
    ['  - { name: a }\n', 'pools[0]: needs either directory or devices, found neither'],
    ['  - { name: a, directory: /a, devices: [/dev/a] }\n', 'pools[0]: needs either directory or devices, found both'],
    ['  - { name: a, devices: [] }\n', 'pools[0].devices: expected at least 1 entry, got an empty list'],
    ['  - { name: a, devices: [sdb] }\n', 'pools[0].devices[0]: expected an absolute path, got "sdb"'],
    ['  []\n', 'pools: expected at least 1 entry, got an empty list'],
  ])('%j', (to, mistake) => {
    expect(mistakesAfter(pool, to)).toEqual([mistake]);
  });

  test('may be of some nodes only, which then may have the same names and directories', () => {
    const pools = [
      '  - { name: main, directory: /srv/a, nodes: [node-a, node-b] }',
      '  - { name: main, directory: /srv/c, nodes: [node-c] }',
      '  - { name: buffer, directory: /srv/c/buffer, nodes: [node-a] }',
    ];
    const read = (node: string) =>
      parse(minimal.replace(pool, `${pools.join('\n')}\n`).replace('node: node-a', `node: ${node}`));
    expect(read('node-a').pools).toEqual([
      { name: 'main', directory: '/srv/a' },
      { name: 'buffer', directory: '/srv/c/buffer' },
    ]);
    expect(read('node-c').pools).toEqual([{ name: 'main', directory: '/srv/c' }]);
    expect(read('node-d').pools).toEqual([]);
  });

  test('of one node must not overlap, however they were named', () => {
    const shared = `${pool}  - { name: main, directory: /srv, nodes: [node-b] }\n`;
    expect(mistakesAfter(pool, shared)).toEqual(['pools[1].name: pool "main" is there already, as pools[0]']);
  });

  test('a broken pool beside a duplicate is named alone, without a crash', () => {
    expect(mistakesAfter(pool, `${pool}  - { name: a }\n${pool}`)).toContain(
      'pools[1]: needs either directory or devices, found neither',
    );
  });
});

describe('addresses', () => {
  test.each([
    '127.0.0.1',
    ':7071',
    '127.0.0.1:',
    '127.0.0.1:http',
    '[::1:7071',
    '::1:7071',
    '[localhost]:7071',
    '10.0.0.300:7071',
    'http://127.0.0.1:7071',
    '-a:7071',
    'a b:1',
  ])('%j is none', (address) => {
    expect(mistakesAfter('127.0.0.1:7071', address)).toEqual([
      `api.listen: ${JSON.stringify(address)} is not an address: expected host:port, e.g. 10.0.0.7:7072 or [::1]:7072`,
    ]);
  });

  test('a port has a limit', () => {
    expect(mistakesAfter('127.0.0.1:7071', '127.0.0.1:70710')).toEqual([
      'api.listen: "127.0.0.1:70710" is not an address: its port is above 65535',
    ]);
  });

  test.each(['localhost:7071', '127.8.9.10:7071', '[::1]:7071', '127.0.0.1:0'])(
    '%j is a loopback address',
    (address) => {
      expect(parse(minimal.replace('127.0.0.1:7071', address)).api.listen).toBe(address);
    },
  );

  test('a wildcard needs an address for others', () => {
    const text = complete.replace('listen: "127.0.0.1:7072", advertise: "127.0.0.1:7072"', 'listen: "0.0.0.0:7072"');
    expect(() => parse(text)).toThrow(
      'mirror.advertise: missing: mirror.listen is "0.0.0.0:7072", so say at which address other nodes reach this one',
    );
  });

  test.each([
    ['[::]:7072', 'mirror.advertise: must be an address that other nodes can connect to, got "[::]:7072"'],
    ['10.0.0.7:0', 'mirror.advertise: must have a port above 0, got "10.0.0.7:0"'],
  ])('%j is no address for others', (address, mistake) => {
    expect(mistakesAfter('listen: "127.0.0.1:7072"', `listen: "127.0.0.1:7072", advertise: "${address}"`)).toEqual([
      mistake,
    ]);
  });
});

describe('mirror.network', () => {
  const withMirror = (mirror: string) => parse(complete.replace(/mirror: .*/, `mirror: { ${mirror} }`));

  test('is advertised', () => {
    const { advertised } = withMirror('listen: "0.0.0.0:7072", network: 10.20.0.0/16').mirror;
    expect(advertised).toMatchObject({ text: '10.20.0.0/16' });
  });

  test.each([
    [
      'listen: "10.20.0.7:7072", network: 10.20.0.0/16',
      'mirror.listen: with mirror.network, expected all addresses and a port above 0, such as 0.0.0.0:7072',
    ],
    [
      'listen: "0.0.0.0:7072", advertise: "10.0.0.7:7072", network: 10.20.0.0/16',
      'mirror.network: expected either mirror.advertise or mirror.network, not both, got "10.20.0.0/16"',
    ],
    [
      'listen: "0.0.0.0:7072", network: storage',
      'mirror.network: "storage" is not a network: expected an address and the length of its prefix, e.g. 10.20.0.0/16 or fd00:20::/64',
    ],
  ])('%s is refused', (mirror, mistake) => {
    expect(() => withMirror(mirror)).toThrow(mistake);
  });
});

describe('tls', () => {
  test.each(['{}', '{ ca: /a, cert: /b }', '{ insecure: true, ca: /a, cert: /b, key: /c }'])(
    '%s is incomplete or contradicts itself',
    (tls) => {
      expect(mistakesAfter('{ insecure: true }', tls)).toEqual([
        'tls: needs ca, cert and key, or enrollment alone, or insecure: true alone',
      ]);
    },
  );

  test('insecure is true or not there', () => {
    expect(mistakesAfter('insecure: true', 'insecure: maybe')).toEqual(['tls.insecure: expected true, got "maybe"']);
  });

  test.each([
    ['127.0.0.1:7071', '10.0.0.7:7071', 'api.listen: "10.0.0.7:7071"'],
    ['127.0.0.1:7072', '0.0.0.0:7072', 'mirror.listen: "0.0.0.0:7072"'],
    ['127.0.0.1:7072', '[::]:7072', 'mirror.listen: "[::]:7072"'],
    ['127.0.0.1:7071', 'node-a.example:7071', 'api.listen: "node-a.example:7071"'],
    ['/run/understudy/nbd', '/run/understudy/nbd, listen: "10.0.0.7:10809"', 'nbd.listen: "10.0.0.7:10809"'],
  ])('insecure is refused on other than loopback addresses: %s → %s', (from, to, beginning) => {
    expect(mistakesAfter(from, to)[0]).toBe(
      `${beginning} is not a loopback address, and tls.insecure is accepted on loopback only; ` +
        'set tls.ca, tls.cert and tls.key instead',
    );
  });

  test('with certificates every address may be listened on', () => {
    expect(parse(complete.replace('127.0.0.1:7071', '0.0.0.0:7071')).api.listen).toBe('0.0.0.0:7071');
  });
});
