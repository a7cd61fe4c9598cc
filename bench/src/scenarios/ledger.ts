/** What the ledger costs a group in which all goes well: the same topic drained with many commits, with it and without. */
import type { Scenario } from '../scenario.ts';
import { checkStored, measureWithJournal, openTopic } from './naru-topic.ts';

/** One batch an answer, and so a commit a batch. */
const POLL_BYTES = 1;

function drain(name: string, what: string, ledger: boolean): Scenario {
  return {
    name,
    what,
    async run(bench) {
      const events = bench.settings.consumedEvents;
      const { broker, publisher } = await openTopic(bench, 'file', 'ordered', ledger);
      await publisher.call('enqueueSome', { events });
      await checkStored(publisher, events);
      const options = { port: broker.ready.port, topic: 'bench', group: 'drain', pollBytes: POLL_BYTES };
      const subscriber = await bench.start('raw-subscriber', options, 'subscriber');
      return measureWithJournal(bench, broker, async () => {
        await subscriber.call('start');
        const received = await subscriber.call('until', { events });
        if (received.events !== events) throw new Error(`${events} events were stored, ${received.events} came`);
        return received;
      });
    },
  };
}

export const ledgerOn = drain('ledger-on', 'Naru, a commit for each batch, registered in the ledger', true);
export const ledgerOff = drain('ledger-off', 'Naru, the same without a ledger', false);
