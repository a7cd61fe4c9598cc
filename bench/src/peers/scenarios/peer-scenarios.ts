/** All scenarios with peers, in the order in which they run. */
import type { PeerScenario } from '../peer-scenario.ts';
import { consumeScenarios } from './consume.ts';
import { idleGroups, manyPartitions } from './many-partitions.ts';
import { produceScenarios } from './produce.ts';
import { publishLatency } from './publish-latency.ts';
import { recovery } from './recovery.ts';
import { fanOut, parallelQueue, service } from './service.ts';
import { start } from './start.ts';

export const peerScenarios: readonly PeerScenario[] = [
  ...produceScenarios,
  ...consumeScenarios,
  service,
  fanOut,
  parallelQueue,
  publishLatency,
  start,
  manyPartitions,
  idleGroups,
  recovery,
];
