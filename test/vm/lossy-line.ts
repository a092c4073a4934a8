import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';

/** What a line is like, in the words of tc-netem(8). */
export interface LineShape {
  /** In each direction, such as `100ms`. */
  readonly delay: string;
  /** In each direction, such as `10mbit`. */
  readonly rate?: string;
  /** Of the packets, in each direction, such as `1%`. */
  readonly loss?: string;
}

/** Packets that the kernel has let pass, and has thrown away, in both directions. */
export interface LineCount {
  readonly sent: number;
  readonly dropped: number;
}

const device = 'lo';
/** A band of its own for each direction; everything else on the device stays in the first one. */
const directions = { dport: '1:3', sport: '1:4' } as const;

/**
 * Has the kernel delay, limit and lose what goes to a TCP port of this machine, and what comes from it. Packets have the size
 * that they have on an Ethernet: the loopback device's own are large, and a loss of one is that of many.
 */
export function shapeLine(port: number, { delay, rate, loss }: LineShape): void {
  straightenLine();
  run('ip', 'link', 'set', 'dev', device, 'mtu', '1500', 'gso_max_segs', '1');
  tc('qdisc', 'add', 'dev', device, 'root', 'handle', '1:', 'prio', 'bands', '4', 'priomap', ...Array(16).fill('0'));
  const shape = ['delay', delay, ...(rate ? ['rate', rate] : []), ...(loss ? ['loss', loss] : [])];
  for (const [side, band] of Object.entries(directions)) {
    tc('qdisc', 'add', 'dev', device, 'parent', band, 'netem', ...shape);
    const match = ['u32', 'match', 'ip', side, String(port), '0xffff', 'flowid', band];
    tc('filter', 'add', 'dev', device, 'parent', '1:', 'protocol', 'ip', ...match);
  }
}

export function straightenLine(): void {
  try {
    execFileSync('tc', ['qdisc', 'del', 'dev', device, 'root'], { stdio: 'ignore' });
  } catch {
    // There was none.
  }
}

export function countPackets(): LineCount {
  const shown = tc('-s', '-j', 'qdisc', 'show', 'dev', device);
  const lines = (JSON.parse(shown) as { kind: string; packets: number; drops: number }[]).filter(
    ({ kind }) => kind === 'netem',
  );
  const sum = (count: (line: { packets: number; drops: number }) => number) =>
    lines.reduce((total, line) => total + count(line), 0);
  return { sent: sum(({ packets }) => packets), dropped: sum(({ drops }) => drops) };
}

/** Of connections that are made from now on. */
export function useCongestionControl(name: string): void {
  writeFileSync('/proc/sys/net/ipv4/tcp_congestion_control', name);
}

/** TCP segments that this machine has sent again. */
export function retransmissions(): number {
  const [names = '', values = ''] = readFileSync('/proc/net/snmp', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('Tcp:'));
  return Number(values.split(' ')[names.split(' ').indexOf('RetransSegs')]);
}

function tc(...args: string[]): string {
  return run('tc', ...args);
}

function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: 'utf8' });
}
