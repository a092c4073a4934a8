import type { VolumeSpecInput, VolumeView } from '../../../agent/api/contract/volumes.ts';
import type { DemoAgent } from './agent.ts';
import type { Report } from './report.ts';

/**
 * Makes a prepared standby the primary of the next epoch, as an administrator does with two calls of the agent's API.
 * First the standby refuses the old epoch and says whether it holds everything; only then does its role change.
 * @throws Error if the standby may miss an acknowledged write.
 */
export async function promote(report: Report, agent: DemoAgent, volume: string): Promise<VolumeView> {
  const standby = await agent.client.getVolume(volume);
  if (standby === undefined) throw new Error(`the agent of ${agent.node} has no copy of ${volume}`);
  const epoch = standby.epoch + 1;
  const { clean, consistent } = await agent.client.prepare(volume, epoch);
  report.note(`POST …/prepare {"epoch": ${epoch}} at ${agent.node}: clean ${clean}, consistent ${consistent}`);
  if (!clean || !consistent) throw new Error(`the standby on ${agent.node} may miss acknowledged writes`);
  const promoted = await agent.client.putVolume(volume, asPrimary(standby, epoch));
  report.note(`PUT … {"role": "primary", "epoch": ${epoch}}: ${promoted.role}, ${promoted.state}`);
  return promoted;
}

function asPrimary(standby: VolumeView, epoch: number): VolumeSpecInput {
  const { size, pool, blockSize, uid, buffer } = standby;
  return {
    size,
    pool,
    blockSize: blockSize === 4096 ? 4096 : 512,
    role: 'primary',
    epoch,
    ...(uid !== undefined && { uid }),
    ...(buffer && {
      buffer: { pool: buffer.pool, capacity: buffer.capacityBytes, maxSnapshots: buffer.maxSnapshots },
    }),
  };
}
