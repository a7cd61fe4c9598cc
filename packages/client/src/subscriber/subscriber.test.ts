import { silentLogger } from '@naru/base';
import type { NaruError } from '@naru/protocol';
import { describe, expect, it } from 'vitest';
import { Naru } from '../naru.ts';
import { settingsSchema } from '../settings.ts';
import type { SettingsInput } from '../settings.ts';
import { FakeGroupBroker } from '../testing/fake-group-broker.ts';
import { VirtualTime, seededRandom } from '../testing/virtual-time.ts';
import type { HandlerContext, NaruEvent } from './event.ts';
import { NonRetriableError } from './handler-error.ts';
import type { RunOptions, SubscriberOptions } from './subscriber.ts';

interface Handling {
  readonly name: string;
  readonly context: HandlerContext;
  done(): void;
  fail(error: Error): void;
}

/** A subscriber whose handlers end when the test says so. */
async function setUp(options: SubscriberOptions & { run?: RunOptions; settings?: SettingsInput['subscriber'] } = {}) {
  const time = new VirtualTime();
  const broker = new FakeGroupBroker(time);
  const settings = settingsSchema.parse({ subscriber: { concurrency: 4, ...options.settings } });
  const runtime = { clock: time, timers: time, random: seededRandom(1), logger: silentLogger };
  const naru = new Naru(settings, broker, runtime);
  const { run, settings: _settings, ...subscriberOptions } = options;
  const subscriber = naru.subscriber('billing', subscriberOptions);
  const started: string[] = [];
  const handlings = new Map<string, Handling>();
  subscriber.handle<string>('orders', (event: NaruEvent<string>, context) => {
    started.push(event.value);
    return new Promise<void>((resolve, reject) => {
      handlings.set(event.value, { name: event.value, context, done: resolve, fail: reject });
    });
  });
  const end: { error?: { code?: string; message: string }; isOver: boolean } = { isOver: false };
  const running = subscriber.run(run).then(
    () => (end.isOver = true),
    (error: unknown) => {
      end.isOver = true;
      end.error = error as NaruError;
    },
  );
  await time.advance(0);
  const handling = (name: string): Handling => {
    const found = handlings.get(name);
    if (found === undefined) throw new Error(`${name} was not handled`);
    return found;
  };
  const done = async (...names: string[]): Promise<void> => {
    for (const name of names) handling(name).done();
    await time.advance(0);
  };
  return { time, broker, naru, subscriber, started, handling, done, end, running };
}

const events = (...names: string[]) => names.map((name) => ({ key: name[0] as string, value: name }));

describe('handling', () => {
  it('runs keys side by side, one key in sequence, and commits what is finished', async () => {
    const { time, broker, started, done } = await setUp();
    broker.assign(0);
    broker.records(0, 0, events('a1', 'b1', 'a2', 'c1'));
    await time.advance(0);
    expect(started).toEqual(['a1', 'b1', 'c1']);
    await done('b1', 'c1');
    await time.advance(1_000);
    expect(broker.commits).toEqual(['0: 0 +1-2 +3-4']);
    await done('a1');
    expect(started).toEqual(['a1', 'b1', 'c1', 'a2']);
    await done('a2');
    await time.advance(1_000);
    expect(broker.commits.at(-1)).toBe('0: 4');
    await time.advance(5_000);
    expect(broker.commits.length).toBe(2);
  });

  it('leaves out what an earlier owner finished', async () => {
    const { time, broker, started } = await setUp();
    broker.assign(0, 1, [{ from: 2, to: 4 }]);
    broker.records(0, 0, events('a0', 'b1', 'c2', 'd3', 'e4'));
    await time.advance(0);
    expect(started).toEqual(['b1', 'e4']);
  });

  it('tries again after a back-off that delays only the key', async () => {
    const { time, broker, started, handling, done } = await setUp({ run: { concurrency: 1 } });
    broker.assign(0);
    broker.records(0, 0, events('a1', 'a2', 'b1'));
    await time.advance(0);
    expect(handling('a1').context.attempt).toBe(1);
    handling('a1').fail(new Error('not now'));
    await time.advance(0);
    expect(started).toEqual(['a1', 'b1']);
    await done('b1');
    await time.advance(250);
    expect(started).toEqual(['a1', 'b1', 'a1']);
    expect(handling('a1').context.attempt).toBe(2);
    await done('a1');
    expect(started.at(-1)).toBe('a2');
  });

  it('ends with the error when attempts are used up and dead letters are off, without committing the event', async () => {
    const options = { retry: { attempts: 2, backoff: fastBackoff }, deadLetter: { use: false } };
    const { time, broker, handling, done, end } = await setUp(options);
    broker.assign(0);
    broker.records(0, 0, events('a1', 'b1'));
    await time.advance(0);
    await done('b1');
    handling('a1').fail(new Error('broken'));
    await time.advance(50);
    handling('a1').fail(new Error('broken'));
    await time.advance(1_000);
    expect(end.error).toMatchObject({
      name: 'HandlerFailedError',
      code: 'HANDLER_FAILED',
      topic: 'orders',
      offset: 0n,
      attempts: 2,
      message: expect.stringContaining('broken'),
    });
    expect(broker.commits).toEqual(['0: 0 +1-2']);
    expect(broker.told('leave').length).toBe(1);
    expect(time.pendingTimers).toBe(0);
  });

  it('does not try again what is hopeless', async () => {
    const { time, broker, handling, end } = await setUp({ deadLetter: { use: false } });
    broker.assign(0);
    broker.records(0, 0, events('a1'));
    await time.advance(0);
    handling('a1').fail(new NonRetriableError('never'));
    await time.advance(100);
    expect(end.error).toMatchObject({ code: 'HANDLER_FAILED', attempts: 1 });
  });

  it('takes up no more than the limit on pending events', async () => {
    const { time, broker, started, done } = await setUp({ maxPendingEvents: 3 });
    broker.assign(0);
    broker.records(0, 0, events('a1', 'a2', 'a3', 'b1'));
    await time.advance(0);
    expect(started).toEqual(['a1']);
    await done('a1');
    expect(started).toEqual(['a1', 'a2', 'b1']);
  });

  it('polls no further while too many bytes are unfinished', async () => {
    const { time, broker, done } = await setUp({ bufferBytes: 3_000, pollBytes: 1_024 });
    broker.assign(0);
    await time.advance(0);
    expect(broker.polls.length).toBe(2);
    broker.records(0, 0, [{ key: 'a', value: `a1`.padEnd(1_500, '.') }]);
    broker.records(0, 1, [{ key: 'a', value: `a2`.padEnd(1_500, '.') }]);
    await time.advance(0);
    expect(broker.polls.length).toBe(0);
    await done('a1'.padEnd(1_500, '.'));
    expect(broker.polls.length).toBe(1);
  });
});

const fastBackoff = { initialMs: 10, factor: 1, maxMs: 10, jitter: 0 };

describe('giving partitions up', () => {
  it('finishes what runs, commits, and then says so', async () => {
    const { time, broker, subscriber, started, done } = await setUp();
    const told: unknown[] = [];
    subscriber.onRevoked((partitions, details) => told.push([partitions, details]));
    broker.assign(0);
    broker.records(0, 0, events('a1', 'a2'));
    await time.advance(0);
    broker.revoke(0);
    await time.advance(500);
    expect(broker.told('released')).toEqual([]);
    await done('a1');
    expect(started).toEqual(['a1']);
    expect(told).toEqual([[[{ topic: 'orders', partition: 0 }], { lost: false }]]);
    expect(broker.commits).toEqual(['0: 1']);
    expect(broker.received.map((message) => message.case).slice(-2)).toEqual(['commit', 'released']);
    expect(subscriber.assigned()).toEqual([]);
  });

  it('waits for handlers no longer than the drain time-out, then aborts their signal', async () => {
    const { time, broker, handling, done } = await setUp({ drainTimeoutMs: 2_000 });
    broker.assign(0);
    broker.records(0, 0, events('a1'));
    await time.advance(0);
    broker.revoke(0);
    await time.advance(1_999);
    expect(handling('a1').context.signal.aborted).toBe(false);
    await time.advance(1);
    expect(handling('a1').context.signal.aborted).toBe(true);
    expect(broker.told('released').length).toBe(1);
    await done('a1');
    await time.advance(5_000);
    expect(broker.commits).toEqual([]);
  });

  it('stops at once when they are lost already, and commits nothing of them', async () => {
    const { time, broker, subscriber, handling, done } = await setUp();
    const told: unknown[] = [];
    subscriber.onRevoked((_partitions, details) => told.push(details));
    broker.assign(0);
    broker.records(0, 0, events('a1', 'a2'));
    await time.advance(0);
    broker.revoke(0, true);
    await time.advance(0);
    expect(handling('a1').context.signal.aborted).toBe(true);
    expect(told).toEqual([{ lost: true }]);
    await done('a1');
    await time.advance(5_000);
    expect(broker.commits).toEqual([]);
    expect(broker.told('released')).toEqual([]);
  });

  it('waits for onAssigned before the first event', async () => {
    const { time, broker, subscriber, started } = await setUp();
    let open = (): void => {};
    subscriber.onAssigned(() => new Promise<void>((resolve) => (open = resolve)));
    broker.assign(0);
    broker.records(0, 0, events('a1'));
    await time.advance(0);
    expect(started).toEqual([]);
    open();
    await time.advance(0);
    expect(started).toEqual(['a1']);
  });
});

describe('broken connections', () => {
  it('go on as the same member where it was, and handle nothing twice', async () => {
    const { time, broker, started, done } = await setUp();
    broker.assign(0);
    broker.records(0, 0, events('a1', 'b1'));
    await time.advance(0);
    const first = broker.lastJoin;
    broker.breakStream();
    await done('a1');
    await time.advance(500);
    expect(broker.lastJoin).toMatchObject({ memberId: first.memberId, memberEpoch: 1 });
    expect(broker.lastJoin.owned).toMatchObject([{ nextOffset: 2n }]);
    broker.records(0, 1, events('b1', 'c1'));
    await time.advance(1_000);
    expect(started).toEqual(['a1', 'b1', 'c1']);
    expect(broker.commits.at(-1)).toBe('0: 1');
  });

  it('send commits again that were not answered', async () => {
    const { time, broker, subscriber, done } = await setUp({ autoCommit: false });
    broker.assign(0);
    broker.records(0, 0, events('a1'));
    await time.advance(0);
    await done('a1');
    broker.answersCommits = false;
    let isCommitted = false;
    void subscriber.commit().then(() => (isCommitted = true));
    await time.advance(0);
    broker.breakStream();
    broker.answersCommits = true;
    await time.advance(500);
    expect(isCommitted).toBe(true);
    expect(broker.commits).toEqual(['0: 1', '0: 1']);
  });

  it('join anew when the member was removed', async () => {
    const { time, broker, started, handling, done, end } = await setUp();
    broker.assign(0);
    broker.records(0, 0, events('a1'));
    await time.advance(0);
    broker.memberEpoch = 7;
    broker.breakStream('UNKNOWN_MEMBER_ID');
    await time.advance(500);
    expect(handling('a1').context.signal.aborted).toBe(true);
    expect(broker.lastJoin).toMatchObject({ memberEpoch: 0, owned: [] });
    broker.assign(0);
    broker.records(0, 0, events('a1'));
    await time.advance(0);
    expect(started, 'the handler from before still runs').toEqual(['a1']);
    await done('a1');
    expect(started).toEqual(['a1', 'a1']);
    expect(end.isOver).toBe(false);
  });

  it('give up what others must have by now, after the session time-out', async () => {
    const { time, broker, handling } = await setUp();
    broker.assign(0);
    broker.records(0, 0, events('a1'));
    await time.advance(0);
    broker.refuseJoin = 'NETWORK';
    broker.breakStream();
    await time.advance(44_000);
    expect(handling('a1').context.signal.aborted).toBe(false);
    await time.advance(1_500);
    expect(handling('a1').context.signal.aborted).toBe(true);
    broker.refuseJoin = null;
    await time.advance(3_000);
    expect(broker.lastJoin.memberEpoch).toBe(0);
  });

  it('end the run when the broker refuses for good', async () => {
    const { time, broker, end } = await setUp();
    broker.breakStream('INCONSISTENT_GROUP_PROTOCOL');
    await time.advance(100);
    expect(end.error).toMatchObject({ code: 'INCONSISTENT_GROUP_PROTOCOL' });
    expect(time.pendingTimers).toBe(0);
  });
});

describe('a subscriber', () => {
  it('says that it is alive as often as the broker asks for', async () => {
    const { time, broker } = await setUp();
    await time.advance(9_500);
    expect(broker.told('heartbeat').length).toBe(3);
  });

  it('asks for no more while a handler hangs longer than the poll interval allows', async () => {
    const { time, broker } = await setUp({ maxPollIntervalMs: 60_000 });
    broker.assign(0);
    broker.records(0, 0, events('a1'));
    await time.advance(61_000);
    broker.polls.length = 0;
    broker.say({ case: 'records', value: { pollId: 2, partitions: [] } });
    await time.advance(1_000);
    expect(broker.polls).toEqual([]);
  });

  it('drains, commits and leaves when its signal aborts', async () => {
    const stop = new AbortController();
    const { time, broker, started, done, end } = await setUp({ run: { signal: stop.signal } });
    broker.assign(0);
    broker.records(0, 0, events('a1', 'a2'));
    await time.advance(0);
    stop.abort();
    await time.advance(100);
    expect(end.isOver).toBe(false);
    await done('a1');
    expect(end).toEqual({ isOver: true });
    expect(started).toEqual(['a1']);
    expect(broker.received.map((message) => message.case).slice(-2)).toEqual(['commit', 'leave']);
    expect(broker.commits).toEqual(['0: 1']);
    expect(time.pendingTimers).toBe(0);
  });

  it('comes back to commit and leave when it is closed without a connection', async () => {
    const { time, broker, subscriber, done, end } = await setUp();
    broker.assign(0);
    broker.records(0, 0, events('a1'));
    await time.advance(0);
    await done('a1');
    broker.breakStream();
    await time.advance(0);
    const closing = subscriber.close();
    await time.advance(100);
    await closing;
    expect(end).toEqual({ isOver: true });
    expect(broker.received.map((message) => message.case).slice(-4)).toEqual(['join', 'pause', 'commit', 'leave']);
    expect(broker.commits).toEqual(['0: 1']);
    expect(time.pendingTimers).toBe(0);
  });

  it('ends without leaving when the broker does not come back', async () => {
    const { time, broker, subscriber, end } = await setUp();
    broker.assign(0);
    await time.advance(0);
    broker.refuseJoin = 'NETWORK';
    broker.breakStream();
    await time.advance(0);
    const closing = subscriber.close();
    await time.advance(10_000);
    await closing;
    expect(end).toEqual({ isOver: true });
    expect(broker.told('leave')).toEqual([]);
    expect(time.pendingTimers).toBe(0);
  });

  it('pauses, also across a reconnection, and resumes', async () => {
    const { time, broker, subscriber, started } = await setUp();
    broker.assign(0);
    await time.advance(0);
    subscriber.pause([{ topic: 'orders', partition: 0 }]);
    broker.records(0, 0, events('a1'));
    await time.advance(0);
    expect(started).toEqual([]);
    broker.breakStream();
    await time.advance(500);
    expect(
      broker
        .told('pause')
        .at(-1)
        ?.partitions.map(({ partition }) => partition),
    ).toEqual([0]);
    subscriber.resume();
    await time.advance(0);
    expect(started).toEqual(['a1']);
    expect(() => subscriber.pause([{ topic: 'orders', partition: 9 }])).toThrow(
      expect.objectContaining({ code: 'NOT_ASSIGNED' }),
    );
  });

  it('seeks when no answer from before can be under way', async () => {
    const { time, broker, subscriber, started } = await setUp();
    broker.assign(0, 5);
    await time.advance(0);
    const sought = subscriber.seek({ topic: 'orders', partition: 0 }, 2n);
    await time.advance(0);
    await sought;
    expect(broker.told('seek')).toEqual([]);
    broker.records(0, 5, events('f5'));
    broker.records(0, 6, events('g6'));
    await time.advance(0);
    expect(broker.told('seek')).toMatchObject([{ position: { position: { value: 2n } } }]);
    broker.records(0, 2, events('c2'));
    await time.advance(0);
    expect(started).toEqual(['c2']);
  });

  it.each([0, Number.NaN, 1.5, 20_000])('refuses to handle %s events at a time', async (concurrency) => {
    const { end, running } = await setUp({ run: { concurrency } });
    await running;
    expect(end.error).toMatchObject({ code: 'INVALID_REQUEST' });
    expect(end.error?.message).toBe(`concurrency: expected a whole number from 1 to 10000, got ${concurrency}`);
  });

  it('refuses to run without handlers, twice, or with a bad group id', async () => {
    const { naru, subscriber } = await setUp();
    await expect(subscriber.run()).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    await expect(naru.subscriber('other').run()).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    expect(() => naru.subscriber('')).toThrow(expect.objectContaining({ code: 'INVALID_GROUP_ID' }));
    expect(() => subscriber.handle('late', () => {})).toThrow(expect.objectContaining({ code: 'INVALID_REQUEST' }));
  });
});
