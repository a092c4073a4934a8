import { defineConfig } from 'vitest/config';

/**
 * Tests against a real Kubernetes API, with real operators and agents as processes. One control plane serves all files;
 * as the operator watches the whole cluster, they run one after the other.
 */
// biome-ignore lint/style/noDefaultExport: vitest reads it
export default defineConfig({
  test: {
    include: ['test/kubernetes/**/*.test.ts'],
    globalSetup: ['test/kubernetes/global-setup.ts'],
    pool: 'forks',
    fileParallelism: false,
    testTimeout: 180_000,
    hookTimeout: 120_000,
    teardownTimeout: 30_000,
  },
});
