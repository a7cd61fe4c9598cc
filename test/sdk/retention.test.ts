/** What a topic keeps, as its users see it: settings, deletion, and subscribers whose next event is gone. */
import { connect } from '@naru/client';
import type { Naru, PositionJump, StartPosition } from '@naru/client';
import { Broker } from '@naru/broker';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

let broker: Broker;
let naru: Naru;

beforeEach(async () => {
  broker = await Broker.start({ storage: 'memory', port: 0, retention: { checkIntervalMs: 10 } });
  naru = await connect({ brokers: [broker.bootstrap] });
});

afterEach(async () => {
  await naru.close();
  await broker.close();
});

describe('settings of a topic', () => {
  it('are given at creation, shown with their defaults, changed, and taken back', async () => {
    const created = await naru.admin.createTopic('orders', { partitions: 1, config: { 'retention.ms': '2d' } });
    expect(created.config).toEqual({ 'retention.ms': '172800000' });
    const changed = await naru.admin.changeTopicConfig('orders', {
      set: { 'retention.bytes': '1GiB' },
      unset: ['retention.ms'],
    });
    expect(changed.config).toEqual({ 'retention.bytes': '1073741824' });
    const entries = await naru.admin.describeTopicConfig('orders');
    expect(entries.find(({ name }) => name === 'retention.bytes')).toMatchObject({ value: '1073741824', isSet: true });
    expect(entries.find(({ name }) => name === 'retention.ms')).toMatchObject({ value: '604800000', isSet: false });
  });

  it('are refused with the setting and what is wrong', async () => {
    await expect(naru.admin.createTopic('a', { config: { 'retention.ms': 'x' } })).rejects.toMatchObject({
      code: 'INVALID_CONFIG',
      message: expect.stringContaining('retention.ms') as string,
    });
    await expect(naru.admin.changeTopicConfig('nowhere', {})).rejects.toMatchObject({
      code: 'UNKNOWN_TOPIC_OR_PARTITION',
    });
    await expect(naru.admin.changeTopicConfig('__groups', { set: {} })).rejects.toMatchObject({
      code: 'INVALID_TOPIC',
    });
  });
});

describe('deleting records', () => {
  async function publish(count: number): Promise<void> {
    await naru.admin.createTopic('orders', { partitions: 1 });
    for (let i = 0; i < count; i++) await naru.publish('orders', i, { key: 'k' });
  }

  it('moves the log start, and refuses what is beyond the end', async () => {
    await publish(5);
    const starts = await naru.admin.deleteRecords('orders', [{ partition: 0, before: 3n }]);
    expect(starts).toEqual([{ partition: 0, offset: 3n }]);
    await expect(naru.admin.deleteRecords('orders', [{ partition: 0, before: 9n }])).rejects.toMatchObject({
      code: 'OFFSET_OUT_OF_RANGE',
    });
    await expect(naru.admin.deleteRecords('orders', [{ partition: 4, before: 'end' }])).rejects.toMatchObject({
      code: 'UNKNOWN_TOPIC_OR_PARTITION',
    });
    expect(await naru.admin.deleteRecords('orders', [{ partition: 0, before: 'end' }])).toEqual([
      { partition: 0, offset: 5n },
    ]);
  });

  /** A group that has committed 1 of 5 events, of which 3 are deleted then, and what it gets and is told. */
  async function behind(
    from: StartPosition,
  ): Promise<{ handled: number[]; jumps: PositionJump[]; run: Promise<void> }> {
    await publish(5);
    for await (const batch of naru.poll({ group: 'payment', topics: ['orders'], maxBatchEvents: 1 })) {
      await batch.commit();
      break;
    }
    await naru.admin.deleteRecords('orders', [{ partition: 0, before: 3n }]);
    const subscriber = naru.subscriber('payment', { from });
    const handled: number[] = [];
    const jumps: PositionJump[] = [];
    const stop = new AbortController();
    subscriber.onPositionJump((jump) => jumps.push(jump));
    subscriber.handle<number>('orders', (event) => {
      handled.push(event.value);
      if (event.value >= 4) stop.abort();
    });
    return { handled, jumps, run: subscriber.run({ signal: stop.signal }) };
  }

  it('is told to a subscriber that is behind, which goes on at the new start', async () => {
    const { handled, jumps, run } = await behind('beginning');
    await run;
    expect(handled).toEqual([3, 4]);
    expect(jumps).toEqual([{ topic: 'orders', partition: 0, from: 1n, to: 3n }]);
  });

  it('ends a subscriber that asked not to jump', async () => {
    const { handled, jumps, run } = await behind('none');
    await expect(run).rejects.toMatchObject({ code: 'OFFSET_OUT_OF_RANGE' });
    expect({ handled, jumps }).toEqual({ handled: [], jumps: [] });
  });
});

describe('a topic that keeps what is not acknowledged', () => {
  it('deletes events once every declared group has committed them', async () => {
    const config = { 'cleanup.policy': 'acknowledged', 'acknowledged.groups': 'payment, audit' };
    await naru.admin.createTopic('orders', { partitions: 1, config });
    for (let i = 0; i < 3; i++) await naru.publish('orders', i, { key: 'k' });
    for (const group of ['payment', 'audit']) {
      const [start] = await naru.admin.listOffsets('orders', 'beginning');
      expect(start?.offset).toBe(0n);
      for await (const batch of naru.poll({ group, topics: ['orders'] })) {
        await batch.commit();
        if (batch.events.at(-1)?.offset === 2n) break;
      }
    }
    let start = 0n;
    // Retention looks every 10 ms here.
    while (start < 3n) start = (await naru.admin.listOffsets('orders', 'beginning'))[0]?.offset ?? 0n;
    expect(start).toBe(3n);
  });
});
