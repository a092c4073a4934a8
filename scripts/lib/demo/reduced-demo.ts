/**
 * The demo without root: nothing is mounted, so libnbd's tools write and read whole images through the NBD exports. The
 * checks are the same: what is a backup of one moment, and what is there after the primary is lost.
 */
import { randomFillSync } from 'node:crypto';
import { existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DemoCluster } from './cluster.ts';
import { run } from './command.ts';
import type { Stage } from './stage.ts';

const imageBytes = 64 * 1024 * 1024;
const blockBytes = 4096;

export async function reducedDemo(stage: Stage): Promise<string> {
  const { report, folder } = stage;
  if (!inPath('nbdcopy')) throw new Error('nbdcopy is missing: install libnbd-bin');
  const cluster = await DemoCluster.start(stage, { attach: 'none' });
  const primary = await cluster.liveExport('node-a');
  const [first, second] = [makeImage(stage, 'first'), makeImage(stage, 'second')];
  const backup = join(folder, 'snapshot-backup.img');
  const live = join(folder, 'live-copy.img');

  await report.step('A first image is written to the primary', () => copy(first, primary));
  const snapshot = await report.step('A Snapshot resource: taken on the standby', () => cluster.takeSnapshot());
  await report.step('While a second image is written, both the snapshot and the live volume are copied', async () => {
    await Promise.all([
      // In small pieces, as a database writes.
      copy(second, primary, blockBytes),
      copyHead(await cluster.snapshotExport(snapshot), backup),
      copyHead(primary, live),
    ]);
    const fromSnapshot = compare(backup, first, second);
    report.check('Copy of the snapshot', fromSnapshot.onlyFirst === fromSnapshot.blocks, describe(fromSnapshot));
    report.observe('Copy of the live volume', describe(compare(live, first, second)));
  });
  await report.step('The primary is lost: the standby takes over by itself', async () => {
    await cluster.failOverAutomatically();
    await cluster.agents['node-a'].end('SIGKILL');
    report.note(`The operator has promoted the standby: ${await cluster.primaryOn('node-b')}`);
    const after = join(folder, 'after-failover.img');
    await copyHead(await cluster.liveExport('node-b'), after);
    const found = compare(after, first, second);
    report.check('Volume after the failover', found.onlySecond === found.blocks, describe(found));
  });
  await report.step('The old primary comes back, as a standby', async () => {
    report.check('Return of the old primary', true, await cluster.bringBack('node-a'));
  });
  await report.step('A SnapshotRestore puts the volume back to the snapshot', async () => {
    const before = await cluster.restore('data-before-upgrade');
    const after = join(folder, 'restored.img');
    await copyHead(await cluster.liveExport('node-b'), after);
    const found = compare(after, first, second);
    report.check('Volume after the restore', found.onlyFirst === found.blocks, `${describe(found)}; kept: ${before}`);
  });
  return cluster.describe();
}

function inPath(program: string): boolean {
  return (process.env.PATH ?? '').split(':').some((folder) => existsSync(join(folder, program)));
}

function makeImage({ folder }: Stage, name: string): string {
  const file = join(folder, `${name}.img`);
  writeFileSync(file, randomFillSync(Buffer.alloc(imageBytes)));
  return file;
}

/** Copies with a flush at the end, so that what was copied is on both nodes' disks. */
async function copy(source: string, destination: string, requestBytes = 256 * 1024): Promise<void> {
  await run(['nbdcopy', '--flush', '--requests=16', `--request-size=${requestBytes}`, source, destination]);
}

/** Copies an export as a whole and keeps the part that the images are in. */
async function copyHead(source: string, file: string): Promise<void> {
  await copy(source, file);
  truncateSync(file, imageBytes);
}

interface Comparison {
  blocks: number;
  onlyFirst: number;
  onlySecond: number;
}

/** Of which image each block of a copy is. */
function compare(file: string, first: string, second: string): Comparison {
  const [copied, one, two] = [readFileSync(file), readFileSync(first), readFileSync(second)];
  const result = { blocks: imageBytes / blockBytes, onlyFirst: 0, onlySecond: 0 };
  for (let offset = 0; offset < imageBytes; offset += blockBytes) {
    const block = copied.subarray(offset, offset + blockBytes);
    if (block.equals(one.subarray(offset, offset + blockBytes))) result.onlyFirst += 1;
    else if (block.equals(two.subarray(offset, offset + blockBytes))) result.onlySecond += 1;
  }
  return result;
}

function describe({ blocks, onlyFirst, onlySecond }: Comparison): string {
  const rest = blocks - onlyFirst - onlySecond;
  return `${onlyFirst} blocks of the first image, ${onlySecond} of the second${rest ? `, ${rest} of neither` : ''}`;
}
