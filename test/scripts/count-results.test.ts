import { expect, test } from 'vitest';
import { countResults, describeFailures } from '../../scripts/lib/count-results.ts';

const file = (status: string, ...tests: string[]) => ({
  name: 'a.test.ts',
  status,
  message: status === 'failed' && tests.length === 0 ? 'cannot be loaded' : '',
  assertionResults: tests.map((each) => ({
    status: each,
    fullName: `is ${each}`,
    failureMessages: each === 'failed' ? ['expected 1\nto be 2'] : [],
  })),
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

test('names what failed, and how', () => {
  const report = { testResults: [file('failed', 'passed', 'failed'), file('failed'), file('passed', 'passed')] };
  expect(describeFailures(report)).toEqual([
    'a.test.ts › is failed\n    expected 1\n    to be 2',
    'a.test.ts\n    cannot be loaded',
  ]);
});
