/** What happens to events between being stored and being handled, end to end: services with an SDK each, and a broker. */
import { Broker } from '@naru/broker';
import { connect, isNaruError, NonRetriableError } from '@naru/client';
import type { DeadLetter, Handler, Naru, Subscriber, SubscriberOptions, TopicType } from '@naru/client';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

/** A group takes turns of a few milliseconds, so that tests need not wait. */
const QUICK = {
  autoCommitIntervalMs: 10,
  pollWaitMs: 100,
  concurrency: 8,
  retry: { attempts: 3, backoff: { initialMs: 5, factor: 2, maxMs: 20, jitter: 0 } },
} satisfies SubscriberOptions;

let broker: Broker;
let naru: Naru;
let connections: Naru[];

beforeEach(async () => {
  broker = await Broker.start({ storage: 'memory', port: 0 });
  connections = [];
  naru = await connected();
});

afterEach(async () => {
  await Promise.all(connections.map((connection) => connection.close()));
  await broker.close();
});

async function connected(): Promise<Naru> {
  const connection = await connect({ brokers: [broker.bootstrap] });
  connections.push(connection);
  return connection;
}

function topic(groups: string, options: { type?: TopicType; config?: Record<string, string> } = {}): Promise<unknown> {
  const { type, config } = options;
  return naru.admin.createTopic('orders', { partitions: 1, type, config: { ...config, ...(groups && { groups }) } });
}

/** Resolves when the member has partitions, or has asked for those of a parallel topic. */
async function started(subscriber: Subscriber): Promise<void> {
  const assigned = Promise.withResolvers<unknown>();
  subscriber.onAssigned(assigned.resolve);
  subscriber.run().catch(assigned.reject);
  await assigned.promise;
}

/** A member of `group` that runs until the test is over, on a connection of its own. */
async function member(group: string, handler: Handler<string>, options: SubscriberOptions = {}): Promise<Naru> {
  const connection = await connected();
  const subscriber = connection.subscriber(group, { ...QUICK, ...options }).handle('orders', handler);
  subscriber.run().catch(() => {});
  return connection;
}

/** Publishes values that say their key: `a1` has the key `a`. @returns request ids by value */
async function publish(...values: readonly string[]): Promise<Record<string, string>> {
  const sent = await Promise.all(values.map((value) => naru.publish('orders', value, { key: value[0] })));
  return Object.fromEntries(sent.map(({ requestId }, i) => [values[i] as string, requestId]));
}

/** Asks again until it is so; the test's time-out ends it. */
async function eventually<T>(ask: () => Promise<T>, isSo: (answer: T) => boolean): Promise<T> {
  for (;;) {
    const answer = await ask();
    if (isSo(answer)) return answer;
  }
}

async function deadLetters(group: string): Promise<DeadLetter[]> {
  const found: DeadLetter[] = [];
  for await (const letter of naru.deadLetters.list(group)) found.push(letter);
  return found;
}

const stateOf = async (requestId: string, group: string): Promise<string | undefined> =>
  (await naru.trace(requestId, { groups: [group] })).groups[0]?.state;

describe('an ordered topic', () => {
  it('tries a failed event again, and blocks its key alone', async () => {
    await topic('billing');
    const done: string[] = [];
    const attempts: number[] = [];
    const b1 = Promise.withResolvers<void>();
    await member('billing', async ({ value }, { attempt }) => {
      if (value === 'a1') {
        attempts.push(attempt);
        await b1.promise;
        if (attempt < 3) throw new Error('not yet');
      }
      done.push(value);
      if (value === 'b1') b1.resolve();
    });
    const { a2 = '' } = await publish('a1', 'a2', 'b1');
    await naru.wait(a2, { group: 'billing' });
    expect(attempts).toEqual([1, 2, 3]);
    expect(done).toEqual(['b1', 'a1', 'a2']);
  });

  it('goes on after a dead letter, which keeps the whole event, and redrives it for its group alone', async () => {
    await topic('billing,audit');
    let isFixed = false;
    const billed: string[] = [];
    const audited: string[] = [];
    await member('billing', ({ value, headers }) => {
      if (value === 'a1' && !isFixed) throw new NonRetriableError('cannot be read');
      billed.push(`${value} ${headers.get('shop')}`);
    });
    await member('audit', ({ value }) => void audited.push(value));
    const poison = await naru.publish('orders', 'a1', { key: 'a', headers: { shop: 'north' } });
    const next = await naru.publish('orders', 'a2', { key: 'a', headers: { shop: 'south' } });
    await naru.wait(next.requestId);
    await expect(naru.wait(poison.requestId)).rejects.toMatchObject({
      name: 'DeadLetteredError',
      code: 'DEAD_LETTERED',
    });

    const [letter] = await deadLetters('billing');
    const origin = { id: poison.requestId, topic: 'orders', partition: 0, offset: 0n, key: 'a', attempts: 1 };
    expect(letter).toMatchObject({ ...origin, state: 'dead', reason: 'non-retriable' });
    expect(letter?.error).toContain('cannot be read');
    const whole = await naru.deadLetters.get('billing', poison.requestId);
    expect(Buffer.from(whole.valueBytes ?? []).toString()).toBe('"a1"');
    expect(whole.headers.get('shop')).toBe('north');
    expect(whole.headers.get('naru-dlq-group')).toBe('billing');

    isFixed = true;
    const dry = await naru.deadLetters.redrive('billing', { dryRun: true });
    expect(dry.redriven.map(({ id }) => id)).toEqual([poison.requestId]);
    expect(await naru.deadLetters.count('billing')).toBe(1);
    await naru.deadLetters.redrive('billing');
    await naru.wait(poison.requestId, { group: 'billing' });
    expect(billed).toEqual(['a2 south', 'a1 north']);
    expect(audited).toEqual(['a1', 'a2']);
    expect(await naru.deadLetters.count('billing')).toBe(0);
  });

  it('parks the key of a dead letter where the group says so, and gives what waited in order after it', async () => {
    await topic('billing:after-dead-letter=park');
    let isFixed = false;
    const done: string[] = [];
    const failing: Handler<string> = ({ value }, context) => {
      if (value === 'a1' && !isFixed) context.deadLetter('no such customer');
      done.push(value);
    };
    const first = await member('billing', failing);
    const ids = await publish('a1', 'a2', 'b1', 'a3');
    await naru.wait(ids['b1'] ?? '', { group: 'billing' });
    await eventually(
      () => stateOf(ids['a3'] ?? '', 'billing'),
      (state) => state === 'parked',
    );
    // Parking is the broker's: another member knows of it.
    await first.close();
    await member('billing', failing);
    const later = await publish('a4', 'b2');
    await naru.wait(later['b2'] ?? '', { group: 'billing' });
    await eventually(
      () => stateOf(later['a4'] ?? '', 'billing'),
      (state) => state === 'parked',
    );
    expect(done).toEqual(['b1', 'b2']);
    const [letter] = await deadLetters('billing');
    expect(letter).toMatchObject({ id: ids['a1'], reason: 'rejected', error: 'no such customer', parkedBehind: 3 });

    isFixed = true;
    await naru.deadLetters.redrive('billing');
    await naru.wait(later['a4'] ?? '', { group: 'billing' });
    expect(done).toEqual(['b1', 'b2', 'a1', 'a2', 'a3', 'a4']);
  });

  it('lets what is parked follow when its dead letter is purged', async () => {
    await topic('billing:after-dead-letter=park');
    const done: string[] = [];
    await member('billing', ({ value }) => {
      if (value === 'a1') throw new NonRetriableError('never');
      done.push(value);
    });
    const { a1 = '', a2 = '' } = await publish('a1', 'a2');
    await eventually(
      () => stateOf(a2, 'billing'),
      (state) => state === 'parked',
    );
    await naru.deadLetters.purge('billing', { ids: [a1] });
    await naru.wait(a2, { group: 'billing' });
    expect(done).toEqual(['a2']);
    expect(await stateOf(a1, 'billing')).toBe('skipped');
  });

  it('hands more failing keys than fit in memory to the broker, in whose keeping they stay in order', async () => {
    await topic('billing');
    const keys = Array.from('cdefghijkl');
    let isFixed = false;
    const done: string[] = [];
    const retry = { attempts: 1_000, backoff: { initialMs: 5, factor: 1, maxMs: 5, jitter: 0 }, maxWaitingEvents: 3 };
    const handler: Handler<string> = ({ key, value }) => {
      if (key !== 'z' && !isFixed) throw new Error('not yet');
      done.push(value);
    };
    await member('billing', handler, { retry });
    const ids = await publish(...keys.flatMap((key) => [`${key}1`, `${key}2`, `${key}3`]), 'z1');
    await naru.wait(ids['z1'] ?? '', { group: 'billing' });
    expect(done).toEqual(['z1']);
    isFixed = true;
    for (const key of keys) await naru.wait(ids[`${key}3`] ?? '', { group: 'billing' });
    for (const key of keys) {
      expect(done.filter((value) => value.startsWith(key))).toEqual([`${key}1`, `${key}2`, `${key}3`]);
    }
  });
});

describe('a parallel topic', () => {
  it('gives events singly to any member, again when they fail, and makes them dead letters after the limit', async () => {
    await topic('work', { type: 'parallel', config: { 'delivery.limit': '2' } });
    const calls: string[] = [];
    const handler: Handler<string> = ({ value }, { attempt }) => {
      calls.push(`${value}#${attempt}`);
      if (value === 'poison') throw new Error('no');
    };
    await member('work', handler);
    await member('work', handler);
    const values = Array.from({ length: 20 }, (_, i) => `v${i}`);
    const ids = await publish(...values, 'poison');
    for (const value of values) await naru.wait(ids[value] ?? '', { group: 'work' });
    await expect(naru.wait(ids['poison'] ?? '', { group: 'work' })).rejects.toMatchObject({ code: 'DEAD_LETTERED' });
    expect(calls.filter((call) => call.startsWith('poison'))).toEqual(['poison#1', 'poison#2']);
    expect(calls.filter((call) => call.startsWith('v')).toSorted()).toEqual(values.map((v) => `${v}#1`).toSorted());
    const [letter] = await deadLetters('work');
    expect(letter).toMatchObject({ id: ids['poison'], attempts: 2 });
  });
});

describe('staged groups', () => {
  it('get an event when every group before them has finished it, whatever other events do', async () => {
    await topic('payment,shipping:order=2');
    const paid: string[] = [];
    const shipped: string[] = [];
    const unpaid: string[] = [];
    const a1 = Promise.withResolvers<void>();
    await member('payment', async ({ value }) => {
      if (value === 'a1') await a1.promise;
      paid.push(value);
    });
    await member('shipping', ({ value }) => {
      if (!paid.includes(value)) unpaid.push(value);
      shipped.push(value);
    });
    const ids = await publish('a1', 'b1', 'b2');
    await naru.wait(ids['b2'] ?? '', { group: 'shipping' });
    expect(shipped).toEqual(['b1', 'b2']);
    const { groups } = await naru.trace(ids['a1'] ?? '');
    const shipping = groups.find(({ group }) => group === 'shipping');
    expect(shipping?.state).toBe('waiting');
    expect(shipping?.waitingFor).toContain('payment');
    a1.resolve();
    await naru.wait(ids['a1'] ?? '');
    expect(shipped).toEqual(['b1', 'b2', 'a1']);
    expect(unpaid).toEqual([]);
  });

  it('wait for a dead letter before them until it is redriven, unless they say otherwise', async () => {
    await topic('payment,shipping:order=2,search:order=2:on-dead-letter=release');
    let isFixed = false;
    const shipped: string[] = [];
    const found: string[] = [];
    await member('payment', ({ value }) => {
      if (value === 'a1' && !isFixed) throw new NonRetriableError('no');
    });
    await member('shipping', ({ value }) => void shipped.push(value));
    await member('search', ({ value }) => void found.push(value));
    const ids = await publish('a1', 'a2', 'b1');
    await naru.wait(ids['a2'] ?? '', { group: 'search' });
    await naru.wait(ids['b1'] ?? '');
    expect(found.toSorted()).toEqual(['a1', 'a2', 'b1']);
    expect(shipped).toEqual(['b1']);
    isFixed = true;
    await naru.deadLetters.redrive('payment');
    await naru.wait(ids['a2'] ?? '', { group: 'shipping' });
    expect(shipped).toEqual(['b1', 'a1', 'a2']);
  });
});

describe('following an event', () => {
  it('publishing can wait until every declared group has processed it, and says what happened instead', async () => {
    await topic('billing,audit');
    const handled: string[] = [];
    await member('audit', ({ value }) => void handled.push(value));
    const late = naru.publish('orders', 'a1', { key: 'a', until: 'processed', timeoutMs: 150 });
    const error: unknown = await late.catch((thrown: unknown) => thrown);
    expect(isNaruError(error, 'REQUEST_TIMED_OUT')).toBe(true);
    expect(String(error)).toContain('billing: waiting');
    await member('billing', ({ value }) => {
      if (value === 'a2') throw new NonRetriableError('no');
      handled.push(value);
    });
    await naru.publish('orders', 'b1', { key: 'b', until: 'processed' });
    expect(handled.filter((value) => value === 'b1')).toHaveLength(2);
    await expect(naru.publish('orders', 'a2', { key: 'a', until: 'processed' })).rejects.toMatchObject({
      code: 'DEAD_LETTERED',
    });
  });

  it('tells each group’s story: attempts, member, note, by request id, by place and by the event’s own id', async () => {
    await topic('billing');
    await member('billing', (_event, context) => {
      if (context.attempt === 1) throw new Error('the line is busy');
      context.note('charged 5');
    });
    const sent = await naru.publish('orders', 'a1', { key: 'a', type: 'order.placed' });
    await naru.wait(sent.requestId, { group: 'billing' });
    const trace = await naru.trace(sent.requestId);
    expect(trace).toMatchObject({ topic: 'orders', partition: 0, offset: 0n, key: 'a', type: 'order.placed' });
    expect(trace.groups).toMatchObject([{ group: 'billing', state: 'processed', attempts: 2, note: 'charged 5' }]);
    expect(trace.groups[0]?.memberId).not.toBe('');
    const byPlace = await naru.trace({ topic: 'orders', partition: 0, offset: 0n });
    const byId = await naru.trace({ cloudEventId: trace.id });
    expect([byPlace.requestId, byId.requestId]).toEqual([sent.requestId, sent.requestId]);
  });

  it('an event that nobody handles is skipped, or a dead letter where the subscriber says so', async () => {
    await topic('lenient,strict');
    for (const [group, unhandled] of [
      ['lenient', 'skip'],
      ['strict', 'fail'],
    ] as const) {
      const subscriber = (await connected()).subscriber(group, { ...QUICK, unhandled });
      await started(subscriber.handle('orders', { type: 'order.placed' }, () => {}));
    }
    const { requestId } = await naru.publish('orders', 'a1', { key: 'a', type: 'order.lost' });
    await naru.wait(requestId, { group: 'lenient' });
    expect(await stateOf(requestId, 'lenient')).toBe('skipped');
    await expect(naru.wait(requestId, { group: 'strict' })).rejects.toMatchObject({ code: 'DEAD_LETTERED' });
    const [letter] = await deadLetters('strict');
    expect(letter?.reason).toBe('unhandled');
  });
});

describe('idempotent handling', () => {
  it('handles an event once that was published twice, also when both come at the same time', async () => {
    await naru.admin.createTopic('orders', { partitions: 4, config: { groups: 'billing' } });
    const handled: string[] = [];
    const subscribers = await Promise.all(
      [1, 2].map(async () => {
        const connection = await connected();
        const subscriber = connection.subscriber('billing', { ...QUICK, idempotency: { use: true } });
        return subscriber.handle('orders', ({ id }) => void handled.push(id));
      }),
    );
    await Promise.all(subscribers.map(started));
    const twice = Array.from({ length: 20 }, (_, i) => `order-${i >> 1}`);
    const sent = await Promise.all(twice.map((id, i) => naru.publish('orders', 'paid', { id, partition: i % 4 })));
    for (const { requestId } of sent) await naru.wait(requestId, { group: 'billing' });
    expect(handled.toSorted()).toEqual([...new Set(twice)].toSorted());
  });

  it('exactly-once is refused without it for parallel topics', async () => {
    await naru.admin.createTopic('jobs', { partitions: 1, type: 'parallel' });
    const subscriber = naru.subscriber('billing', { guarantee: 'exactly-once' }).handle('jobs', () => {});
    await expect(subscriber.run()).rejects.toMatchObject({ code: 'INVALID_CONFIGURATION' });
  });
});
