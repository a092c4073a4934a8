/**
 * Runs an agent with a volume for a moment and ends it in order, so that NODE_COMPILE_CACHE holds it compiled: an
 * emulated machine takes minutes for that. Takes a folder for the agent's files.
 */
import { GuestAgent } from './guest-agent.ts';

const agent = new GuestAgent('warm', 17071, { directory: process.argv[2] ?? '/tmp/warm', attach: 'none' });
await agent.start();
const volume = {
  size: 4 * 1024 * 1024,
  pool: 'main',
  epoch: 1,
  role: 'primary',
  buffer: { pool: 'buffer', capacity: '8Mi' },
};
await agent.call('PUT', '/v1/volumes/v', volume);
await agent.stop();
