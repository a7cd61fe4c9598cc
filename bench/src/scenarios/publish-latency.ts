/** What one awaited publish costs when there is little to do. */
import type { Scenario } from '../scenario.ts';
import { checkStored, measureWithJournal, openTopic } from './naru-topic.ts';

/** Between an answer and the next publish; the bare write waits as long. */
export const PAUSE_MS = 1;

export const awaitedPublish: Scenario = {
  name: 'publish-awaited',
  what: 'Naru, `await publish()`, one at a time',
  async run(bench) {
    const { seconds, warmUpSeconds } = bench.settings;
    const { broker, publisher } = await openTopic(bench);
    const warmUp = await publisher.call('publishAwaited', { seconds: warmUpSeconds, pauseMs: PAUSE_MS });
    const measured = await measureWithJournal(bench, broker, () =>
      publisher.call('publishAwaited', { seconds, pauseMs: PAUSE_MS }),
    );
    await checkStored(publisher, warmUp.events + measured.events);
    return measured;
  },
};
