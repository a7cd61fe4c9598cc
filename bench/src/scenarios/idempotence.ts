/**
 * What producer ids and sequences cost: the same batches on a bare stream, with them and without.
 *
 * Of one publisher at one broker, in turn: brokers and publishers of different runs differ by more than what is looked for.
 */
import type { Scenario, ScenarioRun } from '../scenario.ts';
import { PARTITIONS } from './naru-topic.ts';

const TOPIC = 'bench';
const KINDS = ['idempotent', 'plain'] as const;

async function openPublisher(bench: ScenarioRun) {
  const { warmUpSeconds } = bench.settings;
  const broker = await bench.start('broker', { storage: 'file', data: await bench.directory() }, 'broker');
  const { bootstrap } = broker.ready;
  const publisher = await bench.start(
    'raw-publisher',
    { bootstrap, topic: TOPIC, partitions: PARTITIONS },
    'publisher',
  );
  for (const batches of KINDS) await publisher.call('publishFor', { seconds: warmUpSeconds, batches });
  return publisher;
}

function publish(name: string, what: string, batches: (typeof KINDS)[number]): Scenario {
  return {
    name,
    what,
    async run(bench) {
      const { seconds } = bench.settings;
      const publisher = await bench.once('publisher', () => openPublisher(bench));
      return bench.measure(() => publisher.call('publishFor', { seconds, batches }));
    },
  };
}

export const publishIdempotent = publish(
  'publish-idempotent',
  'Naru, batches with producer id and sequence',
  'idempotent',
);
export const publishPlain = publish('publish-plain', 'Naru, the same batches without', 'plain');
