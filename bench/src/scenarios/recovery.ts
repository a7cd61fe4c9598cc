/**
 * How long a broker takes to serve again: after SIGKILL under load, and after a clean stop, against what it has stored.
 *
 * From the start of the process to the open port, and to the first acknowledgement to a program that had to connect.
 */
import { connect } from '@naru/client';
import type { Measurement } from '../measurement.ts';
import { VALUE_BYTES } from '../payload.ts';
import type { Scenario, ScenarioRun } from '../scenario.ts';
import type { WorkerProcess } from '../worker/worker-process.ts';

const TOPIC = 'bench';
/** So many that each of a thousand partitions has some. */
const KEYS = 50_000;
/** How long the load runs before the broker is killed under it. */
const LOAD_MS = 1_000;
const GIB = 1024 ** 3;

interface Start {
  readonly broker: WorkerProcess<'broker'>;
  readonly servingMs: number;
  readonly firstAckMs: number;
}

function recovery(gib: number, partitions: number): Scenario {
  return {
    name: `recovery-${gib}g-${partitions}p`,
    what: `Naru with ${gib} GiB in ${partitions} partitions, file storage`,
    isLong: gib > 0.1,
    async run(bench) {
      const data = await bench.directory();
      const first = await bench.start('broker', { storage: 'file', data }, 'broker');
      const { bootstrap, port } = first.ready;
      const settings = bench.settings.sdkSettings;
      const publisher = await bench.start(
        'publisher',
        { bootstrap, settings, topic: TOPIC, partitions, keyCount: KEYS },
        'publisher',
      );
      const events = Math.round(Math.min(gib * GIB, bench.settings.storedBytes) / VALUE_BYTES);
      const filled = await publisher.call('enqueueSome', { events });
      const load = publisher.call('enqueueFor', { seconds: LOAD_MS / 1_000 + 1 });
      await new Promise((resolve) => setTimeout(resolve, LOAD_MS));
      await first.kill();
      const crashed = await start(bench, data, port);
      const loaded = await load;
      const { broker, ...clean } = await startCleanly(bench, crashed.broker, data, port);
      const stored = await publisher.call('stored');
      const published = filled.events + loaded.events;
      // The topic is the probes' too.
      if (stored !== published + 2) throw new Error(`${published} events were published, but the topic has ${stored}`);
      await publisher.stop();
      await broker.stop();
      return measurement(crashed, clean, published);
    },
  };
}

/** What starting costs that recovers nothing. */
export const emptyStart: Scenario = {
  name: 'start-empty',
  what: 'Naru on an empty data directory: what Node and a first journal file cost',
  async run(bench) {
    const data = await bench.directory();
    const first = await start(bench, data, 0, true);
    const { broker, ...clean } = await startCleanly(bench, first.broker, data, 0);
    await broker.stop();
    return measurement(first, clean, 0);
  },
};

export const recoveries: readonly Scenario[] = [0.1, 1, 10].flatMap((gib) =>
  [10, 1_000].map((partitions) => recovery(gib, partitions)),
);

async function startCleanly(bench: ScenarioRun, running: WorkerProcess<'broker'>, data: string, port: number) {
  await running.stop();
  return start(bench, data, port);
}

async function start(bench: ScenarioRun, data: string, port: number, createTopic = false): Promise<Start> {
  const startMs = performance.now();
  const broker = await bench.start('broker', { storage: 'file', data, port }, 'broker');
  const servingMs = performance.now() - startMs;
  await using naru = await connect({ brokers: [broker.ready.bootstrap] });
  if (createTopic) await naru.admin.createTopic(TOPIC, { partitions: 1 });
  await naru.publish(TOPIC, {});
  return { broker, servingMs, firstAckMs: performance.now() - startMs };
}

function measurement(crashed: Omit<Start, 'broker'>, clean: Omit<Start, 'broker'>, events: number): Measurement {
  return {
    events,
    bytes: events * VALUE_BYTES,
    seconds: crashed.servingMs / 1_000,
    processes: [],
    notes: {
      firstAckMs: crashed.firstAckMs,
      cleanServingMs: clean.servingMs,
      cleanFirstAckMs: clean.firstAckMs,
    },
  };
}
