/** A broker with one topic and the processes that use it. */
import type { LoadResult, Measurement } from '../measurement.ts';
import type { ScenarioRun } from '../scenario.ts';
import type { WorkerProcess } from '../worker/worker-process.ts';

export const PARTITIONS = 6;
const TOPIC = 'bench';
const GROUP = 'bench-group';

export interface NaruTopic {
  readonly broker: WorkerProcess<'broker'>;
  readonly publisher: WorkerProcess<'publisher'>;
  readonly startSubscriber: (form: 'poll' | 'handler') => Promise<WorkerProcess<'subscriber'>>;
}

export async function openTopic(
  bench: ScenarioRun,
  storage: 'file' | 'memory' = 'file',
  type: 'ordered' | 'parallel' = 'ordered',
  ledger = true,
): Promise<NaruTopic> {
  const broker = await bench.start('broker', { storage, data: await bench.directory(), ledger }, 'broker');
  const { bootstrap } = broker.ready;
  const settings = bench.settings.sdkSettings;
  const publisher = await bench.start(
    'publisher',
    { bootstrap, settings, topic: TOPIC, partitions: PARTITIONS, type },
    'publisher',
  );
  return {
    broker,
    publisher,
    startSubscriber: (form) =>
      bench.start('subscriber', { bootstrap, settings, topic: TOPIC, group: GROUP, form }, 'subscriber'),
  };
}

/** Measures `load`, with the journal's share of it in the notes. */
export async function measureWithJournal(
  bench: ScenarioRun,
  broker: WorkerProcess<'broker'>,
  load: () => Promise<LoadResult>,
): Promise<Measurement> {
  const before = await broker.call('metrics');
  const measurement = await bench.measure(load);
  const after = await broker.call('metrics');
  const since = (name: string): number => (after[name] ?? 0) - (before[name] ?? 0);
  const cycles = find(after, 'log_commit_cycles_total');
  const notes = {
    ...measurement.notes,
    journalCycles: since(cycles),
    journalSeconds: since(find(after, 'log_commit_seconds_total')),
    kibPerCycle: since(find(after, 'log_appended_bytes_total')) / 1024 / Math.max(1, since(cycles)),
    checkpoints: since(find(after, 'log_checkpoints_total')),
  };
  return { ...measurement, notes };
}

/** Whatever prefix the metric has. */
function find(metrics: Readonly<Record<string, number>>, name: string): string {
  return Object.keys(metrics).find((key) => key.endsWith(name)) ?? name;
}

/** @throws Error when the broker does not have exactly what was published */
export async function checkStored(publisher: WorkerProcess<'publisher'>, published: number): Promise<void> {
  const stored = await publisher.call('stored');
  if (stored !== published) throw new Error(`${published} events were published, but the topic has ${stored}`);
}
