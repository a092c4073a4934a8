import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** The files are the chapters of one story: later ones find what earlier ones have made. */
class InOrder extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return files.toSorted((a, b) => a.moduleId.localeCompare(b.moduleId));
  }
}

/** Tests on a cluster of two real nodes, with the chart and the image as a user has them. Root, and minutes. */
// biome-ignore lint/style/noDefaultExport: vitest reads it
export default defineConfig({
  test: {
    include: ['test/cluster/**/*.test.ts'],
    globalSetup: ['test/cluster/global-setup.ts'],
    pool: 'forks',
    fileParallelism: false,
    sequence: { sequencer: InOrder },
    // What comes after a chapter that failed could only fail too, slowly.
    bail: 1,
    // Above the sum of what a test waits for, so that it is the wait that fails, and says for what.
    testTimeout: 600_000,
    hookTimeout: 240_000,
    teardownTimeout: 60_000,
  },
});
