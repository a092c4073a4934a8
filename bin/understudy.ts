#!/usr/bin/env node
import { mkdirSync } from 'node:fs';
import { constants, enableCompileCache } from 'node:module';
import { homedir } from 'node:os';
import { join } from 'node:path';

/**
 * Without a cache the types would be stripped from every file at every start, and again by every worker. Node's own
 * default folder is one that every user of the machine can write to; what is cached there is code.
 */
function cacheCompiledCode(): void {
  if (process.env.NODE_COMPILE_CACHE !== undefined) return;
  const directory = join(homedir(), '.cache', 'understudy', 'compiled');
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch {
    return;
  }
  const { status } = enableCompileCache(directory);
  // Worker threads do not inherit the cache, but look at the environment.
  if (status === constants.compileCacheStatus.ENABLED) process.env.NODE_COMPILE_CACHE = directory;
}

/**
 * Reads that miss the page cache and syncs run on libuv's thread pool, which all volumes of an agent share: with its four
 * threads a few slow ones would hold up all others. It is read when the pool is first used, which is later.
 */
function enlargeThreadPool(): void {
  process.env.UV_THREADPOOL_SIZE ??= '32';
}

enlargeThreadPool();
cacheCompiledCode();
const { runCommandLine } = await import('./command-line.ts');
await runCommandLine(process.argv);
