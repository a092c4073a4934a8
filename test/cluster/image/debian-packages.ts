/** One installed package, as dpkg-query tells it. */
export interface InstalledPackage {
  readonly name: string;
  readonly essential: boolean;
  /** Names it stands for besides its own. */
  readonly provides: readonly string[];
  /** What it needs; of each inner list, one. */
  readonly needs: readonly (readonly string[])[];
}

/** For `dpkg-query -W -f`. */
// biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query fills them in
export const packageFormat = '${db:Status-Status}\t${Package}\t${Essential}\t${Provides}\t${Pre-Depends}\t${Depends}\n';

/** Parses what dpkg-query prints in packageFormat. Versions are left out: what is installed fits together. */
export function parsePackages(text: string): InstalledPackage[] {
  const relations = (field: string) =>
    field
      .split(',')
      .filter((relation) => relation.trim() !== '')
      .map((relation) => relation.split('|').map((name) => name.trim().replace(/[ :(].*$/, '')));
  return text
    .split('\n')
    .map((line) => line.split('\t'))
    .filter(([status]) => status === 'installed')
    .map(([, name = '', essential, provides = '', preDepends = '', depends = '']) => ({
      name,
      essential: essential === 'yes',
      provides: relations(provides).flat(),
      needs: [...relations(preDepends), ...relations(depends)],
    }));
}

/**
 * The packages that make up a system with `wanted`: they, the essential ones, and all that these need, sorted.
 * @throws Error that names what is not installed
 */
export function packageClosure(installed: readonly InstalledPackage[], wanted: readonly string[]): string[] {
  const byName = new Map<string, InstalledPackage>();
  for (const entry of installed) {
    for (const name of entry.provides) if (!byName.has(name)) byName.set(name, entry);
  }
  for (const entry of installed) byName.set(entry.name, entry);
  const chosen = new Set<string>();
  const open = [...installed.filter(({ essential }) => essential).map(({ name }) => name), ...wanted];
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    const found = byName.get(name);
    if (found === undefined) throw new Error(`the package ${name} is not installed`);
    if (chosen.has(found.name)) continue;
    chosen.add(found.name);
    for (const alternatives of found.needs) {
      const present = alternatives.find((alternative) => byName.has(alternative));
      if (present === undefined) throw new Error(`${found.name} needs ${alternatives.join(' or ')}, not installed`);
      open.push(present);
    }
  }
  return [...chosen].sort();
}
