import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { projectDirectory } from '../support/project.ts';

/** What the Dockerfile puts into the image, as far as an image that is built without it has to follow. */
export interface DockerfileContents {
  /** Debian packages of the final stage. */
  readonly packages: readonly string[];
  /** Files and folders of the project that are copied to /opt/understudy. */
  readonly sources: readonly string[];
  /** Variables of the image. */
  readonly environment: Readonly<Record<string, string>>;
  /** The numeric user and group that a container has unless told otherwise. */
  readonly user: string;
}

/** @throws Error if the Dockerfile is not laid out as expected here. */
export async function readDockerfile(): Promise<DockerfileContents> {
  return parseDockerfile(await readFile(join(projectDirectory, 'Dockerfile'), 'utf8'));
}

export function parseDockerfile(text: string): DockerfileContents {
  const instructions = text
    .replaceAll(/^#.*\n/gm, '')
    .replaceAll('\\\n', ' ')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  const stages = instructions.flatMap((line, index) => (line.startsWith('FROM ') ? [index] : []));
  const final = instructions.slice(stages.at(-1));
  const install = final.map((line) => /apt-get install (.*?) &&/.exec(line)?.[1]).find((found) => found !== undefined);
  const user = final.map((line) => /^USER (\S+)$/.exec(line)?.[1]).find((found) => found !== undefined);
  if (stages.length !== 2 || install === undefined || user === undefined) {
    throw new Error('expected a Dockerfile of two stages, whose second one installs packages and sets a USER');
  }
  return {
    packages: words(install),
    sources: instructions.slice(0, stages[1]).flatMap((line) => words(/^COPY (.+) \S+$/.exec(line)?.[1] ?? '')),
    environment: Object.fromEntries(
      final.flatMap((line) => {
        const [, name, value] = /^ENV (\w+)=(\S+)$/.exec(line) ?? [];
        return name !== undefined && value !== undefined ? [[name, value]] : [];
      }),
    ),
    user,
  };
}

/** Without options. */
function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '' && !word.startsWith('-'));
}
