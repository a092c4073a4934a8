import { defineConfig } from 'vitest/config';

/** Every test file runs in a process of its own: the code under test opens sockets, mounts file systems and binds native calls. */
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/kubernetes/**', 'test/cluster/**', 'test/vm/**', 'node_modules/**'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 180_000,
    hookTimeout: 180_000,
    teardownTimeout: 30_000,
  },
});
