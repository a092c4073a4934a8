import { defineConfig } from 'vitest/config';

/** Tests in an emulated machine, for what the kernel of this one may lack. Minutes, most of them the emulation's. */
// biome-ignore lint/style/noDefaultExport: vitest reads it
export default defineConfig({
  test: {
    include: ['test/vm/**/*.test.ts'],
    pool: 'forks',
    // Each boots a machine, which takes what processors there are.
    fileParallelism: false,
    teardownTimeout: 30_000,
  },
});
