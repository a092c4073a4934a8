import { expect, test } from 'vitest';
import { countResults } from '../../scripts/lib/count-results.ts';

const file = (status: string, ...tests: string[]) => ({
  name: 'a.test.ts',
  status,
  assertionResults: tests.map((each) => ({ status: each })),
});

test('adds up the tests of all files', () => {
  const report = { testResults: [file('passed', 'passed', 'pending'), file('failed', 'passed', 'failed', 'todo')] };
  expect(countResults(report, 1)).toEqual({ passed: 2, failed: 1, skipped: 2 });
});

test('a file that could not be loaded counts as one failure', () => {
  const report = { testResults: [file('passed', 'passed'), file('failed')] };
  expect(countResults(report, 1)).toEqual({ passed: 1, failed: 1, skipped: 0 });
});

test('an error outside of every test counts as one failure', () => {
  expect(countResults({ testResults: [file('passed', 'passed')] }, 1)).toEqual({ passed: 1, failed: 1, skipped: 0 });
});

test('a run without a report counts as one failure', () => {
  expect(countResults({ testResults: [] }, 1)).toEqual({ passed: 0, failed: 1, skipped: 0 });
});
