/** Test tools for the other packages; never part of what users run. */
export * from './cloned-shard-client.ts';
export * from './crash-points.ts';
export * from './history-checker.ts';
export * from './history-values.ts';
export * from './history-violations.ts';
export * from './log-model.ts';
export * from './log-rewrites.ts';
export * from './log-store-conformance.ts';
export * from './log-store-crash-run.ts';
export * from './log-workload.ts';
export * from './pipeline-checker.ts';
export * from './postgres-server.ts';
export * from './sample-batch.ts';
export * from './seeded-random.ts';
export * from './sim-disk.ts';
export * from './tcp-proxy.ts';
export * from './virtual-clock.ts';
