import { readFile } from 'node:fs/promises';
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';
import type { z } from 'zod';
import { type Environment, expandVariables } from './config-variables.ts';
import { errorMessage, UnderstudyError } from './errors.ts';
import { formatPath, type Violation, validate } from './validation.ts';

/** Far above any configuration, and far below what would hurt to parse. */
const maxConfigBytes = 1024 * 1024;

/**
 * Reads a YAML configuration file and checks it against a schema. Schemas are strict objects, so that a mistyped key is
 * an error instead of a setting that silently does not apply. `${NAME}` in a text stands for an environment variable, so
 * that all nodes of a cluster can have the same file.
 * @throws UnderstudyError Invalid whose message has one line for each mistake: line, key, what was expected, what is there.
 */
export async function loadConfig<Schema extends z.ZodType>(path: string, schema: Schema): Promise<z.output<Schema>> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new UnderstudyError('Invalid', `cannot read the configuration file ${path}`, { cause });
  }
  return parseConfig(text, path, schema, process.env);
}

/** Checks the text of a configuration; `source` names it in messages, `environment` has the variables. See loadConfig. */
export function parseConfig<Schema extends z.ZodType>(
  text: string,
  source: string,
  schema: Schema,
  environment: Environment = {},
): z.output<Schema> {
  if (text.length > maxConfigBytes) throw invalid(source, [`expected at most ${maxConfigBytes} bytes`]);
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const mistakes = [...document.errors, ...document.warnings];
  if (mistakes.length > 0) {
    throw invalid(
      source,
      mistakes.map((mistake) => `line ${lines.linePos(mistake.pos[0]).line}: not valid YAML: ${mistake.message}`),
    );
  }
  const complain = (violations: readonly Violation[]) => {
    const root = document.contents;
    const described = violations.map((violation) => {
      const offset = root === null ? undefined : offsetOf(root, document, violation.path);
      return { line: offset === undefined ? 0 : lines.linePos(offset).line, violation };
    });
    return invalid(
      source,
      described.toSorted((a, b) => a.line - b.line).map(({ line, violation }) => describe(line, violation)),
    );
  };
  const { value, missing } = expandVariables(toPlainValue(document, source), environment);
  if (missing.length > 0) throw complain(missing);
  const result = validate(schema, value);
  if (!result.ok) throw complain(result.violations);
  return result.value;
}

type YamlDocument = ReturnType<typeof parseDocument>;

/** An empty file is an empty object. Aliases that multiply into an enormous value are refused by the parser here. */
function toPlainValue(document: YamlDocument, source: string): unknown {
  try {
    return document.toJS() ?? {};
  } catch (error) {
    throw invalid(source, [`not valid YAML: ${errorMessage(error)}`]);
  }
}

function describe(line: number, violation: Violation): string {
  const place = line === 0 ? '' : `line ${line}: `;
  const key = formatPath(violation.path);
  return `${place}${key === '' ? '' : `${key}: `}${violation.message}`;
}

function invalid(source: string, mistakes: readonly string[]): UnderstudyError {
  return new UnderstudyError('Invalid', [`${source} is not a valid configuration:`, ...mistakes].join('\n  '));
}

/** Where a key stands in the text, or the nearest thing around it that exists (a missing key has no place itself). */
function offsetOf(root: Node, document: YamlDocument, path: Violation['path']): number | undefined {
  let node: unknown = root;
  let offset: number | undefined = path.length === 0 ? root.range?.[0] : undefined;
  for (const part of path) {
    if (isAlias(node)) node = node.resolve(document);
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(part));
      if (!pair) break;
      offset = isScalar(pair.key) ? (pair.key.range?.[0] ?? offset) : offset;
      node = pair.value;
    } else if (isSeq(node)) {
      const item: unknown = node.items[Number(part)];
      if (!isMap(item) && !isScalar(item) && !isSeq(item)) break;
      offset = item.range?.[0] ?? offset;
      node = item;
    } else break;
  }
  return offset;
}
