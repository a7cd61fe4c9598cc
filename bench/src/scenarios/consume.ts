/** How fast one member reads a topic from its beginning. */
import type { Scenario } from '../scenario.ts';
import { checkStored, measureWithJournal, openTopic } from './naru-topic.ts';

function consume(form: 'poll' | 'handler', what: string): Scenario {
  return {
    name: `consume-${form}`,
    what,
    async run(bench) {
      const events = bench.settings.consumedEvents;
      const { broker, publisher, startSubscriber } = await openTopic(bench);
      await publisher.call('enqueueSome', { events });
      await checkStored(publisher, events);
      const subscriber = await startSubscriber(form);
      return measureWithJournal(bench, broker, async () => {
        await subscriber.call('start');
        const received = await subscriber.call('until', { events });
        if (received.events !== events) throw new Error(`${events} events were stored, ${received.events} came`);
        return received;
      });
    },
  };
}

export const consumePoll = consume('poll', 'Naru, pull form, batches of 500, automatic commits');
export const consumeHandler = consume(
  'handler',
  'Naru, a handler for each event, 16 keys at a time, automatic commits',
);
