import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { SystemCommands } from '../../../agent/attach/commands.ts';
import { systemClock } from '../../../common/clock.ts';
import { waitFor } from '../../support/wait-for.ts';

const commands = new SystemCommands({ clock: systemClock });

function shell(script: string): string[] {
  return ['-c', script];
}

describe('SystemCommands.run', () => {
  test('resolves with the output', async () => {
    const result = await commands.run('sh', shell('echo out; echo err >&2'));
    expect(result).toEqual({ exitCode: 0, stdout: 'out\n', stderr: 'err\n' });
  });

  test('an exit code that was not expected is an error with what the program said', async () => {
    const attempt = commands.run('sh', shell('echo what went wrong >&2; exit 3'));
    await expect(attempt).rejects.toMatchObject({
      code: 'Io',
      message: expect.stringContaining('what went wrong'),
      labels: { program: 'sh', exitCode: 3 },
    });
  });

  test('an exit code that was expected is an answer', async () => {
    expect((await commands.run('sh', shell('exit 2'), { acceptExitCodes: [0, 2] })).exitCode).toBe(2);
    const attempt = commands.run('sh', shell('exit 0'), { acceptExitCodes: [2] });
    await expect(attempt).rejects.toMatchObject({ code: 'Io' });
  });

  test('a program that takes too long is killed', async () => {
    const attempt = commands.run('sleep', ['1000'], { timeoutMs: 50 });
    await expect(attempt).rejects.toMatchObject({ code: 'Timeout', message: expect.stringContaining('50 ms') });
  });

  test('a program that is not installed', async () => {
    const attempt = commands.run('no-such-program', []);
    await expect(attempt).rejects.toMatchObject({ code: 'Unavailable', message: expect.stringContaining('installed') });
  });

  test('nothing waits for input, and messages are not translated', async () => {
    expect((await commands.run('cat', [])).stdout).toBe('');
    expect((await commands.run('sh', shell('echo $LC_ALL'))).stdout).toBe('C\n');
  });
});

describe('SystemCommands.startDaemon', () => {
  test('writes to a file, in a session of its own, and says how it ended', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'understudy-daemon-'));
    try {
      const outputFile = join(directory, 'log');
      const daemon = await commands.startDaemon('sh', shell('cut -d" " -f1,6 /proc/$$/stat; exit 7'), { outputFile });
      await waitFor(() => daemon.ended, { timeoutMs: 10_000 });
      expect(daemon.ended).toBe('exit code 7');
      expect(await readFile(outputFile, 'utf8')).toBe(`${daemon.pid} ${daemon.pid}\n`);
      const missing = commands.startDaemon('no-such-program', [], { outputFile });
      await expect(missing).rejects.toMatchObject({ code: 'Unavailable' });
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });
});

describe('SystemCommands.startDialogue', () => {
  test('reads lines, ends the input, and reports the end', async () => {
    const dialogue = commands.startDialogue('sh', shell('echo one; cat; echo two; echo sorry >&2; exit 5'));
    expect(await dialogue.nextLine()).toBe('one');
    dialogue.endInput();
    expect(await dialogue.nextLine()).toBe('two');
    expect(await dialogue.nextLine()).toBeUndefined();
    expect(await dialogue.ended).toEqual({ exitCode: 5, stderr: 'sorry\n' });
  });

  test('a program that is not installed has no lines and ends', async () => {
    const dialogue = commands.startDialogue('no-such-program', []);
    dialogue.endInput();
    expect(await dialogue.nextLine()).toBeUndefined();
    expect((await dialogue.ended).exitCode).toBe(-1);
  });
});

test('find looks where administrators have their programs', async () => {
  expect(await commands.find('sh')).toMatch(/\/sh$/);
  expect(await commands.find('no-such-program')).toBeUndefined();
});
