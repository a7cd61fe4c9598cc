/** Test tools for the other packages; never part of what users run. Suites that need vitest are imported by their file. */
export * from './cloned-shard-client.ts';
export * from './history-checker.ts';
export * from './sample-batch.ts';
export * from './seeded-random.ts';
export * from './sim-disk.ts';
export * from './virtual-clock.ts';
