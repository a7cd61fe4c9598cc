/** What producer ids and sequences cost: the same batches on a bare stream, with them and without. */
import type { Scenario } from '../scenario.ts';
import { PARTITIONS } from './naru-topic.ts';

function publish(name: string, what: string, batches: 'idempotent' | 'plain'): Scenario {
  return {
    name,
    what,
    async run(bench) {
      const { seconds, warmUpSeconds } = bench.settings;
      const broker = await bench.start('broker', { storage: 'file', data: await bench.directory() }, 'broker');
      const { bootstrap } = broker.ready;
      const options = { bootstrap, topic: 'bench', partitions: PARTITIONS, batches };
      const publisher = await bench.start('raw-publisher', options, 'publisher');
      await publisher.call('publishFor', { seconds: warmUpSeconds });
      return bench.measure(() => publisher.call('publishFor', { seconds }));
    },
  };
}

export const publishIdempotent = publish(
  'publish-idempotent',
  'Naru, batches with producer id and sequence',
  'idempotent',
);
export const publishPlain = publish('publish-plain', 'Naru, the same batches without', 'plain');
