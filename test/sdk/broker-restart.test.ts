/** The SDK while its broker stops and starts again on the same port and data: nothing lost, repeated or out of order. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from '@naru/client';
import { Broker } from '@naru/broker';
import { expect, it, onTestFinished } from 'vitest';

const EVENTS = 2_000;
const KEYS = 20;

it('publishes and handles every event once, in order by key, across restarts of the broker', async () => {
  const data = await mkdtemp(join(tmpdir(), 'naru-restart-'));
  onTestFinished(() => rm(data, { recursive: true }));
  let broker = await Broker.start({ storage: 'file', data, port: 0 });
  const { host, port } = broker.address;
  const naru = await connect({ brokers: [`${host}:${port}`], reconnect: { initial: 5, max: 50 } });
  await naru.admin.createTopic('orders', { partitions: 4 });

  const seen = new Map<string, number[]>();
  let handled = 0;
  const { promise: allHandled, resolve } = Promise.withResolvers<void>();
  const subscriber = naru.subscriber('billing', { autoCommitIntervalMs: 20, pollWaitMs: 100 });
  subscriber.handle<number>('orders', ({ key, value }) => {
    seen.set(key ?? '', [...(seen.get(key ?? '') ?? []), value]);
    handled += 1;
    if (handled === EVENTS) resolve();
  });
  const over = subscriber.run({ concurrency: 4 });

  const read: number[] = [];
  const reader = naru.poll<number>({ topics: ['orders'], pollWaitMs: 100 });
  const reading = (async () => {
    for await (const batch of reader) {
      read.push(...batch.events.map(({ value }) => value));
      if (read.length >= EVENTS) break;
    }
  })();

  const sent = [];
  for (let i = 0; i < EVENTS; i++) {
    sent.push(naru.publish('orders', i, { key: `key-${i % KEYS}` }));
    if (i % 100 === 99) await Promise.all(sent.slice(-50, -40));
    if (i === 700 || i === 1_400) {
      await broker.close();
      broker = await Broker.start({ storage: 'file', data, port });
    }
  }
  const results = await Promise.all(sent);
  await Promise.all([allHandled, reading]);
  await subscriber.close();
  await over;
  await naru.close();
  await broker.close();

  expect(new Set(results.map(({ partition, offset }) => `${partition}/${offset}`)).size).toBe(EVENTS);
  for (const values of seen.values()) expect(values).toEqual(values.toSorted((a, b) => a - b));
  expect(handled).toBe(EVENTS);
  expect(new Set([...seen.values()].flat()).size).toBe(EVENTS);
  expect(read.toSorted((a, b) => a - b)).toEqual(Array.from({ length: EVENTS }, (_, i) => i));
});
