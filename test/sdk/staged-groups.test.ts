/** Groups in stages, with a real broker over gRPC. */
import { Broker } from '@naru/broker';
import { connect, NonRetriableError } from '@naru/client';
import type { Naru, Subscriber } from '@naru/client';
import { afterEach, beforeEach, expect, it, onTestFinished } from 'vitest';

let broker: Broker;
let naru: Naru;

beforeEach(async () => {
  broker = await Broker.start({ storage: 'memory', port: 0 });
  naru = await connect({ brokers: [`${broker.address.host}:${broker.address.port}`] });
});

afterEach(async () => {
  await naru.close();
  await broker.close();
});

function run(subscriber: Subscriber): void {
  const running = subscriber.run({ concurrency: 8 });
  onTestFinished(async () => {
    await subscriber.close();
    await running;
  });
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve));
}

it('hands events from stage to stage by key, past a slow one, and holds back what is a dead letter before', async () => {
  const groups = 'billing,shipping:order=2,mail:order=7';
  await naru.admin.createTopic('orders', { partitions: 1, config: { groups } });
  const handled: string[] = [];
  let goOn = (): void => {};
  const slow = new Promise<void>((resolve) => (goOn = resolve));
  for (const group of ['mail', 'shipping', 'billing']) {
    const subscriber = naru.subscriber(group, { autoCommitIntervalMs: 10 });
    subscriber.handle<string>('orders', async ({ value }) => {
      if (group === 'billing' && value === 'slow 1') await slow;
      if (group === 'billing' && value === 'poison 1') throw new NonRetriableError('never');
      handled.push(`${group} ${value}`);
    });
    run(subscriber);
  }
  const publish = (key: string, value: string) => naru.publish('orders', value, { key });
  await publish('s', 'slow 1');
  const poison = await publish('p', 'poison 1');
  await publish('f', 'fast 1');
  await publish('s', 'slow 2');
  await publish('p', 'poison 2');
  await publish('f', 'fast 2');
  await until(() => handled.includes('mail fast 2'));
  const billed = (key: string) => handled.filter((what) => what.includes(key));
  expect(billed('fast')).toEqual(
    ['billing fast 1', 'billing fast 2', 'shipping fast 1', 'shipping fast 2', 'mail fast 1', 'mail fast 2'].toSorted(
      (a, b) => handled.indexOf(a) - handled.indexOf(b),
    ),
  );
  expect(handled.filter((what) => /^(shipping|mail) (slow|poison)/.test(what))).toEqual([]);

  await until(async () => (await naru.admin.describeGroup('shipping')).offsets[0]?.gate?.passedOver === 4);
  const { offsets } = await naru.admin.describeGroup('shipping');
  expect(offsets[0]?.gate).toMatchObject({ waitsFor: ['billing'], stalled: false });
  goOn();
  await until(() => handled.includes('mail slow 2'));
  expect(handled.filter((what) => what.includes('slow'))).toHaveLength(6);
  for (const group of ['billing', 'shipping', 'mail']) {
    expect(handled.indexOf(`${group} slow 1`)).toBeLessThan(handled.indexOf(`${group} slow 2`));
  }
  const gate = (await naru.admin.describeGroup('shipping')).offsets[0]?.gate;
  expect(gate?.oldest[0]).toMatchObject({ reason: 'dead-letter', groupId: 'billing', deadLetterId: poison.requestId });

  await naru.deadLetters.purge('billing', { ids: [poison.requestId] });
  await until(() => handled.includes('mail poison 2'));
  expect(handled.filter((what) => what.includes('poison'))).toEqual(
    ['billing poison 2', 'shipping poison 1', 'shipping poison 2', 'mail poison 1', 'mail poison 2'].toSorted(
      (a, b) => handled.indexOf(a) - handled.indexOf(b),
    ),
  );
});
