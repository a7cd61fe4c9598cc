/** A publisher and a subscriber at once: how much passes, and how long each event takes. */
import type { Scenario, ScenarioRun } from '../scenario.ts';
import { checkStored, measureWithJournal, openTopic } from './naru-topic.ts';

/** Events a second while latency is measured. */
export const PACED_PER_SECOND = 1_000;

export const endToEndThroughput: Scenario = {
  name: 'end-to-end',
  what: 'Naru, from enqueue to the handler, committed',
  async run(bench) {
    const { seconds, warmUpSeconds } = bench.settings;
    const { broker, publisher, subscriber } = await openBoth(bench);
    const { events: warmUp } = await publisher.call('enqueueFor', { seconds: warmUpSeconds });
    await subscriber.call('until', { events: warmUp });
    const measured = await measureWithJournal(bench, broker, async () => {
      const startMs = performance.now();
      const { events, bytes } = await publisher.call('enqueueFor', { seconds });
      await subscriber.call('until', { events: warmUp + events });
      return { events, bytes, seconds: (performance.now() - startMs) / 1_000 };
    });
    await checkStored(publisher, warmUp + measured.events);
    return measured;
  },
};

export const endToEndLatency: Scenario = {
  name: 'end-to-end-latency',
  what: 'Naru, from publish to the handler',
  async run(bench) {
    const { seconds, warmUpSeconds } = bench.settings;
    const { broker, publisher, subscriber } = await openBoth(bench);
    const paced = (duration: number) => ({ seconds: duration, perSecond: PACED_PER_SECOND });
    const { events: warmUp } = await publisher.call('publishPaced', paced(warmUpSeconds));
    await subscriber.call('until', { events: warmUp });
    await subscriber.call('takeLatency');
    return measureWithJournal(bench, broker, async () => {
      const sent = await publisher.call('publishPaced', paced(seconds));
      await subscriber.call('until', { events: warmUp + sent.events });
      const notes = { acknowledgedP50Ms: sent.latency?.p50 ?? 0, acknowledgedP99Ms: sent.latency?.p99 ?? 0 };
      return { ...sent, latency: await subscriber.call('takeLatency'), notes };
    });
  },
};

async function openBoth(bench: ScenarioRun) {
  const topic = await openTopic(bench);
  const subscriber = await topic.startSubscriber('handler');
  await subscriber.call('start');
  return { ...topic, subscriber };
}
