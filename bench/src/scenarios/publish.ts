/** How fast one program publishes: `enqueue` as fast as it goes, keyed events of 1 KiB, encoding included. */
import type { Scenario } from '../scenario.ts';
import { checkStored, measureWithJournal, openTopic } from './naru-topic.ts';

function publish(storage: 'file' | 'memory', what: string): Scenario {
  return {
    name: `publish-${storage}`,
    what,
    async run(bench) {
      const { seconds, warmUpSeconds } = bench.settings;
      const { broker, publisher } = await openTopic(bench, storage);
      const warmUp = await publisher.call('enqueueFor', { seconds: warmUpSeconds });
      const measured = await measureWithJournal(bench, broker, () => publisher.call('enqueueFor', { seconds }));
      await checkStored(publisher, warmUp.events + measured.events);
      return measured;
    },
  };
}

export const publishFile = publish('file', 'Naru, file storage, fsync before the acknowledgement');
export const publishMemory = publish('memory', 'Naru, memory storage');
