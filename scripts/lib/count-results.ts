/**
 * Adds up a vitest JSON report: prints "passed failed skipped", then what failed and how, to stand at the end of a long
 * log. A run that left no report, exited with an error although
 * every test passed, or has a test file that could not be loaded counts as failed.
 * Usage: node scripts/lib/count-results.ts <report.json> <exit status of vitest>
 */
import { existsSync, readFileSync } from 'node:fs';
import { z } from 'zod';

const assertionSchema = z.object({
  status: z.string(),
  fullName: z.string(),
  failureMessages: z.array(z.string()).nullish(),
});

/** The parts of vitest's report that count here. Source: https://vitest.dev/guide/reporters.html#json-reporter */
const reportSchema = z.object({
  testResults: z.array(
    z.object({ status: z.string(), name: z.string(), message: z.string(), assertionResults: z.array(assertionSchema) }),
  ),
});

/** Of a failure's message only the beginning is shown; the whole of it stands further up in the log. */
const linesShown = 12;

export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

export function countResults(report: unknown, exitStatus: number): Counts {
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  for (const file of reportSchema.parse(report).testResults) {
    const failedBefore = counts.failed;
    for (const { status } of file.assertionResults) {
      if (status === 'passed') counts.passed += 1;
      else if (status === 'failed') counts.failed += 1;
      else counts.skipped += 1;
    }
    if (file.status === 'failed' && counts.failed === failedBefore) counts.failed += 1;
  }
  if (exitStatus !== 0 && counts.failed === 0) counts.failed += 1;
  return counts;
}

/** Each failed test, or file that could not be loaded, with the beginning of what it said. */
export function describeFailures(report: unknown): string[] {
  return reportSchema.parse(report).testResults.flatMap((file) => {
    const failed = file.assertionResults.filter(({ status }) => status === 'failed');
    if (failed.length === 0 && file.status === 'failed') return [describe(file.name, [file.message])];
    return failed.map((test) => describe(`${file.name} › ${test.fullName}`, test.failureMessages ?? []));
  });
}

function describe(what: string, messages: readonly string[]): string {
  const said = messages.join('\n').split('\n').slice(0, linesShown);
  return [what, ...said.map((line) => `    ${line}`)].join('\n');
}

if (import.meta.main) {
  const [path = '', status = '1'] = process.argv.slice(2);
  const report: unknown = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : { testResults: [] };
  const { passed, failed, skipped } = countResults(report, existsSync(path) ? Number(status) : 1);
  console.log([`${passed} ${failed} ${skipped}`, ...describeFailures(report)].join('\n'));
}
