import { describe, expect, test } from 'vitest';
import { type Commands, type Dialogue, SystemCommands } from '../../../agent/attach/commands.ts';
import { freezeFilesystem } from '../../../agent/attach/filesystem-freeze.ts';
import { systemClock } from '../../../common/clock.ts';

/** Runs another script in place of the watchdog's, since no filesystem hangs on demand. */
function commandsWith(script: string): { commands: Commands; dialogues: Dialogue[]; unfrozen: string[] } {
  const system = new SystemCommands({ clock: systemClock });
  const dialogues: Dialogue[] = [];
  const unfrozen: string[] = [];
  const commands: Commands = {
    run: async (_program, args) => {
      unfrozen.push(args.join(' '));
      return { exitCode: 0, stdout: '', stderr: '' };
    },
    startDaemon: (program, args, options) => system.startDaemon(program, args, options),
    startDialogue: () => {
      const dialogue = system.startDialogue('sh', ['-c', script]);
      dialogues.push(dialogue);
      return dialogue;
    },
    find: (program) => system.find(program),
  };
  return { commands, dialogues, unfrozen };
}

describe('freezeFilesystem', () => {
  test('gives up when freezing takes too long; the watchdog then thaws the moment it has frozen', async () => {
    // Frozen only after the agent has gone: the end of the input comes first. Nobody reads these lines.
    const { commands, dialogues } = commandsWith('cat; echo frozen; sleep 0.2; echo thawed');
    const attempt = freezeFilesystem({ commands, clock: systemClock }, '/srv/x', { timeoutMs: 50 });
    await expect(attempt).rejects.toMatchObject({ code: 'Timeout' });
    expect((await dialogues[0]?.ended)?.exitCode).toBe(0);
  });

  test('reports why it could not freeze', async () => {
    const { commands } = commandsWith('echo no such filesystem >&2; exit 3');
    const attempt = freezeFilesystem({ commands, clock: systemClock }, '/srv/x', { timeoutMs: 10_000 });
    await expect(attempt).rejects.toMatchObject({ code: 'Io', message: expect.stringContaining('no such filesystem') });
  });

  test('thaws itself when the watchdog could not, and does not claim that it held', async () => {
    const { commands, unfrozen } = commandsWith('echo frozen; cat; exit 1');
    const freeze = await freezeFilesystem({ commands, clock: systemClock }, '/srv/x', { timeoutMs: 10_000 });
    expect(await freeze.end()).toBe(false);
    expect(await freeze.end()).toBe(false);
    expect(unfrozen).toEqual(['--unfreeze /srv/x']);
  });

  test('an expired freeze did not hold', async () => {
    const { commands } = commandsWith('echo frozen; echo expired; cat');
    const freeze = await freezeFilesystem({ commands, clock: systemClock }, '/srv/x', { timeoutMs: 10_000 });
    expect(await freeze.end()).toBe(false);
  });

  test('one that was ended in time held', async () => {
    const { commands, unfrozen } = commandsWith('echo frozen; cat');
    const freeze = await freezeFilesystem({ commands, clock: systemClock }, '/srv/x', { timeoutMs: 10_000 });
    expect(await freeze.end()).toBe(true);
    expect(unfrozen).toEqual([]);
  });
});
