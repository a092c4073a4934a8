import { Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { UnderstudyError } from '../../common/errors.ts';
import { createLog, type LogLevel } from '../../common/logging.ts';

function capture(level: LogLevel) {
  const lines: Record<string, unknown>[] = [];
  const stream = new Writable({
    write(chunk, _, done) {
      lines.push(JSON.parse(String(chunk)));
      done();
    },
  });
  return { log: createLog(level, stream), lines };
}

test('a line is a JSON object with the labels of the child and of the call', () => {
  const { log, lines } = capture('info');
  log.child({ component: 'api' }).child({ volume: 'v1' }).info({ epoch: 3 }, 'promoted');
  expect(lines).toEqual([
    { level: 'info', time: expect.any(String), component: 'api', volume: 'v1', epoch: 3, msg: 'promoted' },
  ]);
  expect(new Date(String(lines[0]?.time)).toISOString()).toBe(lines[0]?.time);
});

test('what is below the level is left out', () => {
  const { log, lines } = capture('warn');
  log.info({}, 'left out');
  log.warn({}, 'kept');
  expect(lines.map((line) => line.msg)).toEqual(['kept']);
});

test('an error keeps its code, its labels and its cause', () => {
  const { log, lines } = capture('info');
  const error = new UnderstudyError('Io', 'cannot sync', { labels: { volume: 'v1' }, cause: new Error('EIO') });
  log.error({ error }, 'failed');
  expect(lines[0]?.error).toMatchObject({
    code: 'Io',
    message: 'cannot sync',
    labels: { volume: 'v1' },
    cause: { message: 'EIO' },
  });
});
