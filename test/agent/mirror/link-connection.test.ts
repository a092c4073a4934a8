import { expect, test } from 'vitest';
import type { Connection } from '../../../agent/core/connection.ts';
import { LinkConnection } from '../../../agent/mirror/link-connection.ts';
import { protocolVersion } from '../../../agent/mirror/protocol.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { fastTiming } from '../../support/mirror-rig.ts';
import { settle } from '../../support/settle.ts';

/** Ends as soon as somebody listens. */
const ended: Connection = {
  queuedBytes: 0,
  send: () => undefined,
  flush: () => undefined,
  pause: () => undefined,
  resume: () => undefined,
  handle: ({ closed }) => closed(new Error('reset')),
  destroy: () => undefined,
};

test('a connection that has ended before it is used is made anew, and the reason is told', async () => {
  const clock = new ManualClock();
  let attempts = 0;
  const link = new LinkConnection('standby:1', {
    volume: 'v',
    connect: async () => {
      attempts += 1;
      return ended;
    },
    clock,
    timing: fastTiming,
    hello: (generation) => ({
      protocol: protocolVersion,
      volume: 'v',
      uid: 'u',
      epoch: 1,
      size: 512,
      blockSize: 512,
      mirror: 'm',
      generation,
    }),
    wanted: () => true,
    connected: () => expect.unreachable('there is no connection'),
    disconnected: () => expect.unreachable('there was no connection'),
    events: () => expect.unreachable('there is no connection'),
    tick: () => undefined,
  });
  link.start();
  await settle();
  expect(link.lastError).toBe('cannot connect to standby:1: the link was lost: reset');
  clock.advance(fastTiming.reconnectMs);
  await settle();
  expect(attempts).toBe(2);
  link.stop();
});
