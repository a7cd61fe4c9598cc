/** Failing handlers, dead letters, idempotency and following events, with a real broker over gRPC. */
import { Broker } from '@naru/broker';
import { NonRetriableError, connect } from '@naru/client';
import type { Naru, Subscriber } from '@naru/client';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';

let broker: Broker;
let naru: Naru;

const quick = { initialMs: 1, factor: 1, maxMs: 5, jitter: 0 };

beforeEach(async () => {
  broker = await Broker.start({ storage: 'memory', port: 0 });
  naru = await connect({ brokers: [`${broker.address.host}:${broker.address.port}`] });
});

afterEach(async () => {
  await naru.close();
  await broker.close();
});

function run(subscriber: Subscriber, concurrency = 8): void {
  const running = subscriber.run({ concurrency });
  onTestFinished(async () => {
    await subscriber.close();
    await running;
  });
}

/** Resolves when `condition` holds, looked at whenever the event loop comes round. */
async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve));
}

async function ids(group: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { id } of naru.deadLetters.list(group)) found.push(id);
  return found;
}

describe('ordered topics', () => {
  it('dead-letter what cannot be handled, and go on with its key; redriven it is handled', async () => {
    await naru.admin.createTopic('orders', { partitions: 1 });
    const handled: unknown[] = [];
    let isFixed = false;
    const subscriber = naru.subscriber('billing', { retry: { attempts: 2, backoff: quick } });
    subscriber.handle<string>('orders', (event, context) => {
      if (event.value === 'poison' && !isFixed) throw new Error('cannot');
      if (event.value === 'bad') throw new NonRetriableError('never');
      context.note('fine');
      handled.push(event.value);
    });
    run(subscriber);
    const poison = await naru.publish('orders', 'poison', { key: 'a' });
    const bad = await naru.publish('orders', 'bad', { key: 'b' });
    await naru.publish('orders', 'next', { key: 'a' });
    await until(() => handled.includes('next'));
    await until(async () => (await ids('billing')).length === 2);
    const details = await naru.deadLetters.get('billing', poison.requestId);
    expect(details).toMatchObject({ reason: 'attempts-exhausted', attempts: 2, state: 'dead', key: 'a' });
    expect(details.error).toContain('cannot');
    expect(Buffer.from(details.valueBytes ?? []).toString()).toBe('"poison"');
    expect(await naru.deadLetters.get('billing', bad.requestId)).toMatchObject({
      reason: 'non-retriable',
      attempts: 1,
    });

    isFixed = true;
    const { redriven } = await naru.deadLetters.redrive('billing', { ids: [poison.requestId] });
    expect(redriven.map(({ id }) => id)).toEqual([poison.requestId]);
    await naru.wait(poison.requestId, { group: 'billing' });
    expect(handled).toEqual(['next', 'poison']);
    expect(await naru.deadLetters.purge('billing')).toHaveLength(1);
    expect(await ids('billing')).toEqual([]);
  });

  it('park the key of a dead letter: what follows waits until it is redriven', async () => {
    const config = { groups: 'billing:after-dead-letter=park' };
    await naru.admin.createTopic('orders', { partitions: 1, config });
    const handled: unknown[] = [];
    let isFixed = false;
    const subscriber = naru.subscriber('billing', { retry: { attempts: 1, backoff: quick } });
    subscriber.handle<string>('orders', (event) => {
      if (event.value === 'a0' && !isFixed) throw new Error('cannot');
      handled.push(event.value);
    });
    run(subscriber);
    const sent = [];
    for (const value of ['a0', 'a1', 'b0', 'a2'])
      sent.push(await naru.publish('orders', value, { key: value[0] ?? '' }));
    const [first, second] = sent;
    await until(() => handled.includes('b0'));
    await until(async () => (await ids('billing')).length === 1);
    const parked = await naru.trace(second?.requestId ?? '', { groups: ['billing'] });
    expect(parked.groups).toMatchObject([{ state: 'parked', behind: first?.requestId }]);
    expect(handled).toEqual(['b0']);
    isFixed = true;
    await naru.deadLetters.redrive('billing');
    await until(() => handled.includes('a2'));
    expect(handled).toEqual(['b0', 'a0', 'a1', 'a2']);
    // Everything of the key is done: it is not blocked any more.
    const last = await naru.publish('orders', 'a3', { key: 'a', until: 'processed', timeoutMs: 10_000 });
    expect(last.offset).toBe(4n);
  });

  it('give failing keys to the broker when too many wait, and lose nothing', async () => {
    await naru.admin.createTopic('orders', { partitions: 1 });
    const handled = new Map<string, number[]>();
    const failures = new Map<string, number>();
    const retry = { attempts: 5, backoff: quick, maxWaitingEvents: 10 };
    const subscriber = naru.subscriber('billing', { retry });
    subscriber.handle<number>('orders', (event) => {
      const key = event.key ?? '';
      const failed = failures.get(`${event.offset}`) ?? 0;
      failures.set(`${event.offset}`, failed + 1);
      if (event.value === 0 && failed < 2) throw new Error('not yet');
      handled.set(key, [...(handled.get(key) ?? []), event.value]);
    });
    run(subscriber);
    const keys = Array.from({ length: 100 }, (_, i) => `k${i}`);
    await Promise.all([0, 1, 2].flatMap((value) => keys.map((key) => naru.publish('orders', value, { key }))));
    await until(() => [...handled.values()].flat().length === 300);
    for (const key of keys) expect([key, handled.get(key)]).toEqual([key, [0, 1, 2]]);
  });

  it('keep the order of failing keys when members come and go', async () => {
    await naru.admin.createTopic('orders', { partitions: 4 });
    const handled = new Map<string, number[]>();
    const calls = new Map<string, number>();
    const member = (): Subscriber =>
      naru
        .subscriber('billing', { retry: { attempts: 10, backoff: quick, maxWaitingEvents: 5 } })
        .handle<number>('orders', async (event, context) => {
          const count = (calls.get(event.requestId) ?? 0) + 1;
          calls.set(event.requestId, count);
          await new Promise((resolve) => setImmediate(resolve));
          if ((event.value * 7 + count) % 3 === 0 && count < 6) throw new Error('not now');
          if (context.signal.aborted) return;
          const key = event.key ?? '';
          const before = handled.get(key) ?? [];
          if (!before.includes(event.value)) handled.set(key, [...before, event.value]);
        });
    const first = member();
    run(first);
    const keys = Array.from({ length: 20 }, (_, i) => `k${i}`);
    const publish = (from: number): Promise<unknown> =>
      Promise.all(
        Array.from({ length: 10 }, (_, i) => keys.map((key) => naru.publish('orders', from + i, { key }))).flat(),
      );
    await publish(0);
    const second = member();
    run(second);
    await publish(10);
    await until(() => second.assigned().length > 0);
    await first.close();
    await publish(20);
    await until(() => [...handled.values()].flat().length === 600);
    const inOrder = Array.from({ length: 30 }, (_, i) => i);
    for (const key of keys) expect([key, handled.get(key)]).toEqual([key, inOrder]);
  });

  it('tell who waits that an event became a dead letter, or where it is', async () => {
    await naru.admin.createTopic('orders', { partitions: 1 });
    const subscriber = naru.subscriber('billing');
    subscriber.handle<string>('orders', (_event, context) => context.deadLetter('not ours'));
    run(subscriber);
    const sent = await naru.publish('orders', 'x', { key: 'a' });
    await expect(naru.wait(sent.requestId, { group: 'billing' })).rejects.toMatchObject({
      name: 'DeadLetteredError',
      groups: [{ group: 'billing', state: 'dead-lettered', reason: 'rejected' }],
    });
    await expect(naru.wait(sent.requestId, { group: 'nobody', timeoutMs: 50 })).rejects.toMatchObject({
      name: 'RequestTimedOutError',
      groups: [{ group: 'nobody', state: 'waiting' }],
    });
  });

  it('handle events once by their id, by the broker’s memory', async () => {
    await naru.admin.createTopic('orders', { partitions: 1 });
    const handled: unknown[] = [];
    const subscriber = naru.subscriber('billing', { guarantee: 'exactly-once', idempotency: { use: true } });
    subscriber.handle<string>('orders', (event) => {
      handled.push(event.value);
    });
    run(subscriber);
    for (const value of ['first', 'again']) await naru.publish('orders', value, { key: 'a', id: 'same' });
    const last = await naru.publish('orders', 'last', { key: 'a' });
    await naru.wait(last.requestId, { group: 'billing' });
    expect(handled).toEqual(['first', 'last']);
  });

  it('come again in pull form, too', async () => {
    await naru.admin.createTopic('orders', { partitions: 1 });
    for (const value of ['a0', 'b0', 'a1']) await naru.publish('orders', value, { key: value[0] ?? '' });
    const seen: unknown[] = [];
    for await (const batch of naru.poll<string>({ group: 'audit', topics: ['orders'] })) {
      const [first] = batch.events;
      if (seen.length === 0 && first !== undefined) batch.retry(first, 0);
      for (const event of batch) seen.push(event.value);
      await batch.commit();
      if (seen.filter((value) => value === 'a1').length === 2) break;
    }
    expect(seen).toEqual(['a0', 'b0', 'a1', 'a0', 'a1']);
  });
});

describe('parallel topics', () => {
  it('are handled by any number of members, retried and dead-lettered', async () => {
    await naru.admin.createTopic('jobs', { partitions: 2, type: 'parallel' });
    const handled: number[] = [];
    for (let member = 0; member < 2; member++) {
      const subscriber = naru.subscriber('workers', { retry: { attempts: 3, backoff: quick } });
      subscriber.handle<number>('jobs', (event, context) => {
        if (event.value === 13) throw new Error('unlucky');
        if (event.value % 10 === 0 && context.attempt === 1) throw new Error('once');
        handled.push(event.value);
      });
      run(subscriber);
    }
    const sent = await Promise.all(Array.from({ length: 200 }, (_, i) => naru.publish('jobs', i)));
    await until(() => handled.length >= 199);
    await until(async () => (await ids('workers')).length === 1);
    expect(handled.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 200 }, (_, i) => i).filter((i) => i !== 13));
    const [dead] = await ids('workers');
    expect(dead).toBe(sent[13]?.requestId);
  });
});
