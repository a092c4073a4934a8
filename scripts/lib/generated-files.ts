import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';

/**
 * Makes a directory hold exactly these files, by name; or, with `check`, only tells which differ from what it holds.
 * @returns the names of the files that differ, or differed.
 */
export async function generateFiles(
  directory: string,
  wanted: ReadonlyMap<string, string>,
  options: { readonly check: boolean },
): Promise<string[]> {
  const existing = await readdir(directory).catch(() => []);
  const superfluous = existing.filter((file) => !wanted.has(file));
  const different = [...superfluous];
  for (const [file, text] of wanted) {
    const now = await readFile(path.join(directory, file), 'utf8').catch(() => undefined);
    if (now !== text) different.push(file);
  }
  if (options.check) return different.sort();
  await mkdir(directory, { recursive: true });
  for (const [file, text] of wanted) await writeFile(path.join(directory, file), text);
  for (const file of superfluous) await rm(path.join(directory, file));
  return different.sort();
}
