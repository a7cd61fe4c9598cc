/** A parallel topic beside an ordered one: the same events, members without an SDK, one word for each answer. */
import type { Scenario } from '../scenario.ts';
import { checkStored, measureWithJournal, openTopic } from './naru-topic.ts';

function drain(type: 'ordered' | 'parallel', what: string): Scenario {
  return {
    name: `drain-${type}`,
    what,
    async run(bench) {
      const events = bench.settings.consumedEvents;
      const { broker, publisher } = await openTopic(bench, 'file', type);
      await publisher.call('enqueueSome', { events });
      await checkStored(publisher, events);
      const { port } = broker.ready;
      const subscriber = await bench.start('raw-subscriber', { port, topic: 'bench', group: 'drain' }, 'subscriber');
      return measureWithJournal(bench, broker, async () => {
        await subscriber.call('start');
        const received = await subscriber.call('until', { events });
        if (received.events !== events) throw new Error(`${events} events were stored, ${received.events} came`);
        return received;
      });
    },
  };
}

export const drainOrdered = drain('ordered', 'Naru, ordered topic, a commit for each answer');
export const drainParallel = drain(
  'parallel',
  'Naru, parallel topic, acquired and accepted, one settlement for each answer',
);
