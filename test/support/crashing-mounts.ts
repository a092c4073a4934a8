/**
 * A process that mounts and unmounts, and kills itself at a chosen step: arguments are the directory, the scenario, the
 * number of the step, and whether to die just before the step or while it is under way. A step is an external command
 * or a write of the journal. It exits with 0 if the scenario ended before that step.
 */
import { join } from 'node:path';
import type { Commands } from '../../agent/attach/commands.ts';
import type { StorageDirectory } from '../../agent/core/storage.ts';
import { openMounts } from './mount-host.ts';
import { ToolExportSource } from './tool-export-source.ts';

const [directory = '', scenario = '', stepText = '', moment = ''] = process.argv.slice(2);
const fatalStep = Number(stepText);
let step = -1;

/** Timers of the system clock do not keep a process alive. */
const alive = setInterval(() => {}, 60_000);

function die(): void {
  process.kill(process.pid, 'SIGKILL');
}

function asStep<T>(name: string, task: () => Promise<T>): Promise<T> {
  step += 1;
  if (step !== fatalStep) return task();
  process.stdout.write(`${name}\n`);
  if (moment === 'before') die();
  const result = task();
  die();
  return result;
}

function crashingCommands(commands: Commands): Commands {
  return {
    run: (program, args, options) => asStep(program, () => commands.run(program, args, options)),
    startDaemon: (program, args, options) => asStep(program, () => commands.startDaemon(program, args, options)),
    startDialogue: (program, args) => commands.startDialogue(program, args),
    find: (program) => commands.find(program),
  };
}

function crashingState(state: StorageDirectory): StorageDirectory {
  return {
    open: (name, options) => state.open(name, options),
    readFile: (name) => state.readFile(name),
    writeFile: (name, content) => asStep('journal', () => state.writeFile(name, content)),
    remove: (name) => state.remove(name),
    list: () => state.list(),
    space: () => state.space(),
  };
}

const source = new ToolExportSource({ directory: join(directory, 'volumes') });
const mounts = await openMounts(directory, source, { commands: crashingCommands, state: crashingState });
const target = join(directory, 'target', 'deeper');
if (scenario === 'volume') {
  await mounts.mountVolume('vol', 'm', { target, fsType: 'ext4', format: true, readOnly: false, options: [] });
} else {
  await mounts.mountSnapshot('vol', 's1', 'm', { target, options: [] });
}
await mounts.unmount('vol', 'm');
clearInterval(alive);
