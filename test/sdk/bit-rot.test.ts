/** What subscribers of the SDK see of a partition whose storage has rotted: an error that names the place, and everything else. */
import { mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Naru, PartitionFailure } from '@naru/client';
import { connect } from '@naru/client';
import { Broker } from '@naru/broker';
import { beforeEach, expect, it, onTestFinished } from 'vitest';

const EVENTS = 40;
const TOPIC = 'orders';
let naru: Naru;
/** Values by partition and offset. */
let published: number[][];

/** Overwrites a byte in the middle of a partition's only segment. Resolves to the file. */
async function damage(data: string, topicId: string, partition: number): Promise<string> {
  const directory = join(data, 'segments', `${topicId}-${partition}`);
  const [name] = (await readdir(directory)).filter((entry) => entry.endsWith('.log'));
  const path = join(directory, name as string);
  const file = await open(path, 'r+');
  const { size } = await file.stat();
  await file.write(Buffer.from([0xff, 0x00, 0xff]), 0, 3, Math.floor(size / 2));
  await file.close();
  return path;
}

beforeEach(async () => {
  const data = await mkdtemp(join(tmpdir(), 'naru-rot-'));
  onTestFinished(() => rm(data, { recursive: true }));
  let broker = await Broker.start({ storage: 'file', data, port: 0 });
  const before = await connect({ brokers: [broker.bootstrap] });
  const { topicId: id } = await before.admin.createTopic(TOPIC, { partitions: 2 });
  published = [[], []];
  for (let i = 0; i < EVENTS; i++) {
    const { partition } = await before.publish(TOPIC, i, { key: `key-${i}` });
    published[partition]?.push(i);
  }
  await before.close();
  await broker.close();
  await damage(data, id, 0);
  broker = await Broker.start({ storage: 'file', data, port: 0 });
  naru = await connect({ brokers: [broker.bootstrap] });
  onTestFinished(async () => {
    await naru.close();
    await broker.close();
  });
});

it('tells a listener of the partition and the offset; the other partition goes on, and so does this one behind the damage', async () => {
  const seen: number[][] = [[], []];
  const failures: PartitionFailure[] = [];
  const { promise: done, resolve } = Promise.withResolvers<void>();
  const subscriber = naru.subscriber('billing', { pollWaitMs: 50 });
  subscriber.handle<number>(TOPIC, ({ partition, value }) => {
    seen[partition]?.push(value);
    if (published.every((values, index) => values.at(-1) === seen[index]?.at(-1))) resolve();
  });
  subscriber.onPartitionFailed(async (failure) => {
    failures.push(failure);
    const { topic, partition, offset } = failure;
    await subscriber.seek({ topic, partition }, offset + 1n);
  });
  const over = subscriber.run();
  await done;
  await subscriber.close();
  await over;
  expect(seen[1]).toEqual(published[1]);
  expect(failures).toHaveLength(1);
  const [{ topic, partition, offset, error }] = failures as [PartitionFailure];
  expect({ topic, partition, code: error.code }).toEqual({ topic: TOPIC, partition: 0, code: 'DATA_CORRUPT' });
  expect(error.message).toContain(`orders/0 cannot be read on at offset ${offset}: `);
  expect(error.message).toContain('.log, byte ');
  // Everything but the one event that is damaged.
  expect(seen[0]).toEqual(published[0]?.filter((_, index) => index !== Number(offset)));
});

it('ends a subscriber that does not listen, with the error', async () => {
  const subscriber = naru.subscriber('billing', { pollWaitMs: 50 });
  subscriber.handle(TOPIC, () => {});
  await expect(subscriber.run()).rejects.toMatchObject({
    code: 'DATA_CORRUPT',
    message: expect.stringMatching(/^orders\/0 cannot be read on at offset \d+: /),
  });
});

it('ends a poll with the error, which gives nothing that is damaged', async () => {
  const values: number[] = [];
  const reading = async (): Promise<void> => {
    for await (const batch of naru.poll<number>({ topics: [TOPIC], pollWaitMs: 50 }))
      values.push(...batch.events.map(({ value }) => value));
  };
  await expect(reading()).rejects.toMatchObject({ code: 'DATA_CORRUPT' });
  expect(values.filter((value) => !published.flat().includes(value))).toEqual([]);
});
