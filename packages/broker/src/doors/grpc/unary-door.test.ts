/** Members of a group that speak in single calls, on time that the test owns. */
import { connect } from 'node:net';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { Broker } from '@naru/broker';
import type { JoinRequestSchema, JoinResponse, PollResponse, Record as WireRecord } from '@naru/protocol/proto';
import { SeededRandom, VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { finished, turns } from '../../runtime/settling.ts';
import { errorOf, RawClient } from './raw-client.ts';

const BEGINNING = { position: { case: 'beginning', value: true } } as const;
const LONG_MS = 20_000;

let clock: VirtualClock;
let broker: Broker;
let client: RawClient;

beforeEach(async () => {
  clock = new VirtualClock();
  broker = await Broker.start({ storage: 'memory', port: 0 }, { clock, timers: clock });
  client = new RawClient(broker.bootstrap);
});

afterEach(async () => {
  client.destroy();
  await finished(broker.close(), clock);
});

type JoinInit = Extract<MessageInitShape<typeof JoinRequestSchema>, { $typeName?: never }>;

function join(memberId: string, options: JoinInit = {}): Promise<JoinResponse> {
  return client.calls.join({ groupId: 'payment', memberId, topics: ['orders'], start: BEGINNING, ...options });
}

/** `partition/offset:value` */
function texts({ records }: PollResponse): string[] {
  return records.map(({ partition, offset, valueText }) => `${partition}/${offset}:${valueText}`);
}

/** The broker's code for a call that fails. */
async function codeOf(call: Promise<unknown>): Promise<string | undefined> {
  return (await client.error(call))?.code;
}

/** What the group has committed, by partition. */
async function committed(): Promise<(number | null)[]> {
  const { offsets } = await client.admin.describeGroup({ groupId: 'payment' });
  return offsets
    .sort((a, b) => a.partition - b.partition)
    .map(({ committedOffset }) => (committedOffset === undefined ? null : Number(committedOffset)));
}

async function connections(): Promise<number> {
  const page = await (await fetch(`http://${broker.bootstrap}/metrics`)).text();
  return Number(/^naru_connections (\d+)$/m.exec(page)?.[1]);
}

describe('a member that polls by calls', () => {
  it('waits for records, gets them once and in order, and commits what an answer gave', async () => {
    await client.createTopic('orders');
    const { sessionId, assigned } = await join('a');
    expect(assigned).toMatchObject([{ topic: 'orders', partition: 0, position: 0n, highWatermark: 0n }]);
    const waiting = client.calls.poll({ sessionId, maxWaitMs: LONG_MS });
    await turns();
    await client.publish('orders', 0, ['a', 'b']);
    const first = await waiting;
    expect([first.pollId, ...texts(first)]).toEqual([1, '0/0:a', '0/1:b']);
    expect(texts(await client.calls.poll({ sessionId }))).toEqual([]);
    const answer = await client.calls.commit({ sessionId, pollId: 1 });
    expect(answer).toMatchObject({ committed: [{ topic: 'orders', partition: 0, offset: 2n }], failed: [] });
    expect(await committed()).toEqual([2]);
  });

  it('gets an answer without records when the wait is over, and no later than half of its session time-out', async () => {
    await client.createTopic('orders');
    const { sessionId, sessionTimeoutMs } = await join('a');
    const waiting = client.calls.poll({ sessionId, maxWaitMs: 24 * 3_600_000 });
    await turns(50);
    clock.advance(sessionTimeoutMs / 2);
    expect(await waiting).toMatchObject({ pollId: 0, records: [] });
  });

  it('gets what was in a lost answer again, with what came since, and commits nothing that it never got', async () => {
    await client.createTopic('orders');
    const { sessionId } = await join('a');
    await client.publish('orders', 0, ['a']);
    await client.calls.poll({ sessionId, received: 0 });
    await client.publish('orders', 0, ['b']);
    const lost = await client.calls.poll({ sessionId, received: 1 });
    expect(texts(lost)).toEqual(['0/1:b']);
    expect(await codeOf(client.calls.poll({ sessionId, received: 7 }))).toBe('INVALID_REQUEST');
    await client.calls.commit({ sessionId, pollId: 1 });
    expect(await committed()).toEqual([1]);
    await client.publish('orders', 0, ['c']);
    const again = await client.calls.poll({ sessionId, received: 1 });
    expect([again.pollId, ...texts(again)]).toEqual([3, '0/1:b', '0/2:c']);
    expect(texts(await client.calls.poll({ sessionId, received: 3 }))).toEqual([]);
  });

  it('misses nothing that was read for a poll which it gave up', async () => {
    await client.createTopic('orders');
    const { sessionId } = await join('a');
    const abort = new AbortController();
    const given = client.calls.poll({ sessionId, maxWaitMs: LONG_MS }, { signal: abort.signal });
    const ended = given.catch((error: unknown) => ConnectError.from(error).code);
    await turns(20);
    abort.abort();
    expect(await ended).toBe(Code.Canceled);
    await client.publish('orders', 0, ['a', 'b']);
    expect(texts(await client.calls.poll({ sessionId, maxWaitMs: LONG_MS }))).toEqual(['0/0:a', '0/1:b']);
  });

  it('misses nothing either when its HTTP/1.1 connection broke while it waited', async () => {
    await client.createTopic('orders');
    const { sessionId } = await join('a');
    // The connection of these questions is among them from the first one's answer on.
    await connections();
    const before = await connections();
    const socket = connect(broker.address.port, broker.address.host);
    const body = JSON.stringify({ sessionId, maxWaitMs: LONG_MS });
    const head = `POST /naru.v1.SubscriberService/Poll HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n`;
    socket.write(`${head}content-length: ${body.length}\r\n\r\n${body}`);
    while ((await connections()) === before) await turns(1);
    await turns(50);
    socket.destroy();
    while ((await connections()) !== before) await turns(1);
    await client.publish('orders', 0, ['a', 'b']);
    expect(texts(await client.calls.poll({ sessionId, maxWaitMs: LONG_MS }))).toEqual(['0/0:a', '0/1:b']);
  });

  it('ends the wait of a poll, with nothing, when it polls again', async () => {
    await client.createTopic('orders');
    const { sessionId } = await join('a');
    const first = client.calls.poll({ sessionId, maxWaitMs: LONG_MS });
    await turns(20);
    const second = client.calls.poll({ sessionId, maxWaitMs: LONG_MS });
    expect(texts(await first)).toEqual([]);
    await client.publish('orders', 0, ['a']);
    expect(texts(await second)).toEqual(['0/0:a']);
    // What still waits for the first one's records does not keep an impatient one waiting.
    expect(await client.calls.poll({ sessionId, maxWaitMs: 0 })).toMatchObject({ pollId: 1, records: [] });
  });

  it('gets as much as it asks for, in the middle of a batch too, and from every partition in its turn', async () => {
    await client.createTopic('orders', 2);
    const { sessionId } = await join('a');
    for (const partition of [0, 1]) await client.publish('orders', partition, ['a', 'b', 'c', 'd', 'e']);
    const found: string[][] = [];
    for (let i = 0; i < 6; i++) found.push(texts(await client.calls.poll({ sessionId, maxRecords: 2 })));
    const turnsOfPartitions = found.slice(0, 4).map((part) => new Set(part.map((text) => text[0])).size);
    expect(turnsOfPartitions).toEqual([1, 1, 1, 1]);
    expect(new Set(found.slice(0, 2).map(([text]) => text?.[0])), 'neither starves').toEqual(new Set(['0', '1']));
    const all = found.flat();
    const letters = ['a', 'b', 'c', 'd', 'e'].map((letter, offset) => `${offset}:${letter}`);
    for (const partition of ['0', '1']) {
      const ofPartition = all.filter((text) => text[0] === partition);
      expect(ofPartition.map((text) => text.slice(2))).toEqual(letters);
    }
    expect(texts(await client.calls.poll({ sessionId }))).toEqual([]);
    await client.publish('orders', 0, ['x'.repeat(3_000), 'y'.repeat(3_000)]);
    expect((await client.calls.poll({ sessionId, maxBytes: 1_000 })).records).toHaveLength(1);
    expect((await client.calls.poll({ sessionId, maxBytes: 1_000 })).records).toHaveLength(1);
  });

  it('is not given what its group has finished beyond the committed offset, and keeps that', async () => {
    await client.createTopic('orders');
    await client.publish('orders', 0, ['a', 'b', 'c', 'd']);
    const before = await join('a');
    const offsets = [{ topic: 'orders', offset: 1n, finished: [{ from: 2n, to: 3n }] }];
    await client.calls.commit({ sessionId: before.sessionId, offsets });
    await client.calls.leave({ sessionId: before.sessionId });
    const { sessionId, assigned } = await join('b');
    expect(assigned[0]).toMatchObject({ position: 1n, committedOffset: 1n });
    expect(texts(await client.calls.poll({ sessionId, maxRecords: 1 }))).toEqual(['0/1:b']);
    await client.calls.commit({ sessionId, offsets: [{ topic: 'orders', offset: 1n }] });
    const { offsets: stored } = await client.admin.describeGroup({ groupId: 'payment' });
    expect(stored[0]?.finished).toMatchObject([{ from: 2n, to: 3n }]);
    expect(texts(await client.calls.poll({ sessionId }))).toEqual(['0/3:d']);
    await client.calls.commit({ sessionId, pollId: 2 });
    expect(await committed()).toEqual([4]);
  });

  it('shares partitions with a member on a stream, and releases what it was asked for by polling on', async () => {
    await client.createTopic('orders', 2);
    for (const partition of [0, 1]) await client.publish('orders', partition, ['a']);
    const { sessionId, assigned } = await join('a');
    expect(assigned).toHaveLength(2);
    const given = await client.calls.poll({ sessionId });
    expect(texts(given)).toHaveLength(2);
    const waiting = client.calls.poll({ sessionId, maxWaitMs: LONG_MS });
    await turns(20);
    const value = { groupId: 'payment', memberId: 'b', topics: ['orders'], start: BEGINNING };
    const stream = client.subscribe({ case: 'join', value });
    const { revoked, records, pollId } = await waiting;
    expect(records).toEqual([]);
    expect(revoked).toMatchObject([{ topic: 'orders', lost: false }]);
    await client.calls.commit({ sessionId, pollId });
    expect(stream.kinds()).not.toContain('assigned');
    await client.calls.poll({ sessionId });
    const [taken] = await stream.assigned(1);
    expect(taken).toMatchObject({ partition: { partition: revoked[0]?.partition }, committedOffset: 1n, position: 1n });
    stream.send({ case: 'leave', value: {} });
    await stream.take('left');
    const back = await client.calls.poll({ sessionId });
    expect(back.assigned).toMatchObject([{ partition: revoked[0]?.partition, position: 1n }]);
  });
});

describe('a session of calls', () => {
  it('is one of the two, calls or a stream: who joined last speaks for the member', async () => {
    await client.createTopic('orders');
    const { sessionId } = await join('a');
    const value = { groupId: 'payment', memberId: 'a', topics: ['orders'], start: BEGINNING };
    const stream = client.subscribe({ case: 'join', value });
    await stream.assigned(1);
    expect(await codeOf(client.calls.poll({ sessionId }))).toBe('FENCED_MEMBER_EPOCH');
    const { sessionId: second } = await join('a');
    expect(await stream.error()).toMatchObject({ code: 'FENCED_MEMBER_EPOCH' });
    await client.publish('orders', 0, ['x']);
    expect(texts(await client.calls.poll({ sessionId: second }))).toEqual(['0/0:x']);
  });

  it('lives as long as it is called, then loses its partitions', async () => {
    await client.createTopic('orders');
    const { sessionId, sessionTimeoutMs } = await join('a');
    for (let i = 0; i < 3; i++) {
      clock.advance(sessionTimeoutMs - 1);
      await client.calls.poll({ sessionId });
    }
    clock.advance(sessionTimeoutMs + 1);
    await turns();
    const { members } = await client.admin.describeGroup({ groupId: 'payment' });
    expect(members).toEqual([]);
    expect(await codeOf(client.calls.poll({ sessionId }))).toBe('UNKNOWN_MEMBER_ID');
    expect(await codeOf(client.calls.commit({ sessionId, pollId: 0 }))).toBe('UNKNOWN_MEMBER_ID');
  });

  it('that neither polls nor commits loses its partitions although it waits', async () => {
    await client.createTopic('orders');
    const { sessionId } = await join('a', { maxPollIntervalMs: 1_000 });
    clock.advance(1_001);
    await turns();
    expect(await codeOf(client.calls.poll({ sessionId }))).toBe('MAX_POLL_INTERVAL_EXCEEDED');
  });

  it('of a reader without a group reads everything, commits nothing and ends when nobody calls', async () => {
    await client.createTopic('orders', 2);
    await client.publish('orders', 1, ['x']);
    const { sessionId, memberId, sessionTimeoutMs } = await join('', { groupId: '' });
    expect(memberId).toMatch(/^[0-9a-f-]{36}$/);
    expect(texts(await client.calls.poll({ sessionId }))).toEqual(['1/0:x']);
    expect(await codeOf(client.calls.commit({ sessionId, pollId: 1 }))).toBe('INVALID_REQUEST');
    clock.advance(sessionTimeoutMs);
    expect(await codeOf(client.calls.poll({ sessionId }))).toBe('UNKNOWN_MEMBER_ID');
  });

  it('that could not begin holds no partitions', async () => {
    await client.createTopic('orders');
    expect(await codeOf(client.calls.join({ groupId: 'payment', topics: ['orders'] }))).toBe('NO_OFFSET');
    expect(await codeOf(join('a', { topics: ['nope'] }))).toBe('UNKNOWN_TOPIC_OR_PARTITION');
    expect((await join('a')).assigned).toHaveLength(1);
  });

  it('is unknown after the member left, and so is one that never was', async () => {
    await client.createTopic('orders');
    const { sessionId } = await join('a');
    await client.calls.leave({ sessionId });
    expect((await client.admin.describeGroup({ groupId: 'payment' })).members).toEqual([]);
    expect(await codeOf(client.calls.leave({ sessionId }))).toBe('UNKNOWN_MEMBER_ID');
    expect(await codeOf(client.calls.poll({ sessionId: '' }))).toBe('UNKNOWN_MEMBER_ID');
    expect(await codeOf(client.calls.ack({ sessionId }))).toBe('UNKNOWN_MEMBER_ID');
  });

  it('ends the wait of its poll when the broker closes', async () => {
    await client.createTopic('orders');
    const { sessionId } = await join('a');
    const waiting = client.calls.poll({ sessionId, maxWaitMs: LONG_MS }).catch((error: unknown) => error);
    await turns(20);
    const closing = finished(broker.close(), clock);
    expect(errorOf(await waiting)?.code).toBe('SHUTTING_DOWN');
    await closing;
  });

  it('refuses a commit that says nothing, or nothing that it may', async () => {
    await client.createTopic('orders', 2);
    await client.publish('orders', 0, ['x']);
    const { sessionId } = await join('a');
    await client.calls.poll({ sessionId });
    const place = { topic: 'orders', partition: 0 };
    expect(await codeOf(client.calls.commit({ sessionId }))).toBe('INVALID_REQUEST');
    expect(await codeOf(client.calls.commit({ sessionId, pollId: 1, offsets: [place] }))).toBe('INVALID_REQUEST');
    expect(await codeOf(client.calls.commit({ sessionId, pollId: 5 }))).toBe('INVALID_REQUEST');
    const beyond = { ...place, offset: 2n };
    expect(await codeOf(client.calls.commit({ sessionId, offsets: [beyond] }))).toBe('OFFSET_OUT_OF_RANGE');
    const nowhere = { ...place, partition: 7 };
    expect(await codeOf(client.calls.commit({ sessionId, offsets: [nowhere] }))).toBe('UNKNOWN_TOPIC_OR_PARTITION');
    const offsets = [
      { ...place, offset: 1n },
      { topic: 'orders', partition: 1, offset: 9n },
    ];
    const { committed: done, failed } = await client.calls.commit({ sessionId, offsets });
    expect(done).toMatchObject([{ partition: 0, offset: 1n }]);
    expect(failed).toMatchObject([{ topic: 'orders', partition: 1, error: { code: 'OFFSET_OUT_OF_RANGE' } }]);
  });
});

/** A member whose answers get lost, which says so. */
class CarefulMember {
  readonly #memberId: string;
  #sessionId: string | null = null;
  #received = 0;

  constructor(memberId: string) {
    this.#memberId = memberId;
  }

  /** Records that arrived; none when the answer was lost. */
  async poll(isLost: boolean, maxRecords: number): Promise<WireRecord[]> {
    if (this.#sessionId === null) {
      ({ sessionId: this.#sessionId } = await join(this.#memberId));
      this.#received = 0;
    }
    const answer = await client.calls.poll({ sessionId: this.#sessionId, received: this.#received, maxRecords });
    if (isLost) return [];
    this.#received = answer.pollId;
    return answer.records;
  }

  async commit(): Promise<void> {
    if (this.#sessionId === null) return;
    // Fenced for what is another member's by now.
    await client.calls.commit({ sessionId: this.#sessionId, pollId: this.#received }).catch(ignoreFence);
  }

  /** It goes without a word, or says that it goes, and joins again. */
  async restart(isPolite: boolean): Promise<void> {
    if (isPolite && this.#sessionId !== null) await client.calls.leave({ sessionId: this.#sessionId });
    this.#sessionId = null;
  }
}

function ignoreFence(error: unknown): void {
  if (errorOf(error)?.code !== 'STALE_MEMBER_EPOCH') throw error;
}

it.each([1, 2, 3, 4])(
  'no commit ever covers a record that arrived nowhere, whatever is lost: seed %i',
  async (seed) => {
    const random = new SeededRandom(seed);
    await client.createTopic('orders', 3);
    const members = [new CarefulMember('a'), new CarefulMember('b')];
    const arrived = new Set<string>();
    let published = 0;
    const note = (records: readonly WireRecord[]): void => {
      for (const { partition, offset } of records) arrived.add(`${partition}/${offset}`);
    };
    for (let step = 0; step < 150; step++) {
      const member = random.pick(members);
      const choice = random.float();
      if (choice < 0.3) {
        const values = Array.from({ length: 1 + random.integer(4) }, () => 'x');
        published += values.length;
        await client.publish('orders', random.integer(3), values);
      } else if (choice < 0.75) {
        note(await member.poll(random.chance(0.3), 1 + random.integer(5)));
      } else if (choice < 0.95) {
        await member.commit();
        const offsets = await committed();
        for (const [partition, offset] of offsets.entries())
          for (let below = 0; below < (offset ?? 0); below++) expect(arrived).toContain(`${partition}/${below}`);
      } else {
        await member.restart(random.chance(0.5));
      }
    }
    for (let round = 0; round < 200 && arrived.size < published; round++) {
      for (const member of members) note(await member.poll(false, 100));
    }
    expect(arrived.size).toBe(published);
  },
);
