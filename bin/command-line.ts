import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { errorMessage } from '../common/errors.ts';
import { runService } from './run-service.ts';

/** What a command loads is loaded when it runs, so that an agent does not hold a Kubernetes client in memory. */
export async function runCommandLine(argv: readonly string[]): Promise<void> {
  const version = packageVersion();
  const program = new Command('understudy')
    .description('Replicated volumes for Kubernetes, with snapshots to back up from.')
    .version(version)
    .showHelpAfterError('(see --help)');

  program
    .command('agent')
    .description('Serve the volumes of this node.')
    .requiredOption('--config <file>', 'configuration file, YAML')
    .action(async ({ config }: { config: string }) => {
      const { agentService } = await import('./agent-service.ts');
      await runService(() => agentService(config, version));
    });

  program
    .command('operator')
    .description('Act on the custom resources of a cluster.')
    .requiredOption('--config <file>', 'configuration file, YAML')
    .action(async ({ config }: { config: string }) => {
      const { operatorService } = await import('./operator-service.ts');
      await runService(() => operatorService(config, version));
    });

  try {
    await program.parseAsync([...argv]);
  } catch (error) {
    process.stderr.write(`understudy: ${errorMessage(error)}\n`);
    process.exitCode = 1;
  }
}

function packageVersion(): string {
  const manifest: { version: string } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  return manifest.version;
}
