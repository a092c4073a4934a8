/**
 * Writes test/model-checking/generated/tables.pml: the decisions of the code, for the model of the protocol.
 *
 *   node scripts/generate-model-tables.ts           writes it
 *   node scripts/generate-model-tables.ts --check   fails if it differs from what it would write
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { tables } from '../test/model-checking/tables.ts';
import { generateFiles } from './lib/generated-files.ts';

const { values: options } = parseArgs({ options: { check: { type: 'boolean', default: false } } });
const directory = path.join(import.meta.dirname, '..', 'test', 'model-checking', 'generated');
const different = await generateFiles(directory, new Map([['tables.pml', tables()]]), options);
if (options.check && different.length > 0) {
  console.error('test/model-checking/generated is not what the code decides. Run npm run generate.');
  process.exitCode = 1;
}
