/**
 * Writes docs/resources/<singular>.md from the schemas in operator/resources.
 *
 *   node scripts/generate-resource-docs.ts           writes them
 *   node scripts/generate-resource-docs.ts --check   fails if they differ from what it would write
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { customResources } from '../operator/resources/all-kinds.ts';
import { generateFiles } from './lib/generated-files.ts';
import { resourcePage } from './lib/resource-page.ts';

const { values: options } = parseArgs({ options: { check: { type: 'boolean', default: false } } });
const pages = new Map(customResources.map((resource) => [`${resource.singular}.md`, resourcePage(resource)]));
const directory = path.join(import.meta.dirname, '..', 'docs', 'resources');
const different = await generateFiles(directory, pages, options);
if (options.check && different.length > 0) {
  console.error(`docs/resources/ is not what the schemas say: ${different.join(', ')}. Run npm run generate.`);
  process.exitCode = 1;
}
