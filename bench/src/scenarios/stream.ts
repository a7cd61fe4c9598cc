/** How fast the broker takes what comes: encoded batches on a bare stream, so that no publisher's encoding is in the way. */
import type { Scenario } from '../scenario.ts';
import { measureWithJournal, PARTITIONS } from './naru-topic.ts';

function stream(storage: 'file' | 'memory', what: string): Scenario {
  return {
    name: `stream-${storage}`,
    what,
    async run(bench) {
      const { seconds, warmUpSeconds } = bench.settings;
      const broker = await bench.start('broker', { storage, data: await bench.directory() }, 'broker');
      const options = { topic: 'bench', partitions: PARTITIONS, ...broker.ready };
      const publisher = await bench.start('raw-publisher', options, 'publisher');
      const batches = 'encoded';
      await publisher.call('publishFor', { seconds: warmUpSeconds, batches });
      return measureWithJournal(bench, broker, () => publisher.call('publishFor', { seconds, batches }));
    },
  };
}

export const streamFile = stream('file', 'Naru, encoded batches on a bare stream, file storage, fsync');
export const streamMemory = stream('memory', 'Naru, encoded batches on a bare stream, memory storage');
