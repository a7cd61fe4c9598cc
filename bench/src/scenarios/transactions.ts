/** What transactions cost: a program that publishes 1,000 events at a time and waits for them, in transactions and without. */
import type { Scenario } from '../scenario.ts';
import { openTopic } from './naru-topic.ts';

const EVENTS_PER_GROUP = 1_000;
/** Of the program: while one waits the others go on. */
const GROUPS_AT_ONCE = 4;

function publish(name: string, what: string, isTransactional: boolean): Scenario {
  return {
    name,
    what,
    async run(bench) {
      const { seconds, warmUpSeconds } = bench.settings;
      const { publisher } = await openTopic(bench, 'file');
      const form = { events: EVENTS_PER_GROUP, atOnce: GROUPS_AT_ONCE, isTransactional };
      await publisher.call('publishGroups', { ...form, seconds: warmUpSeconds });
      return bench.measure(() => publisher.call('publishGroups', { ...form, seconds }));
    },
  };
}

export const publishInTransactions = publish('publish-transactions', 'Naru, 1,000 events in a transaction', true);
export const publishInGroups = publish('publish-groups', 'Naru, the same 1,000 events without one', false);
