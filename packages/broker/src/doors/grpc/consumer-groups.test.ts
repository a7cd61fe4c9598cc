/** Consumer groups through the gRPC door, without an SDK, on time that the test owns. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { Broker, type BrokerConfigInput } from '@naru/broker';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import { decodeRecords, splitBatches } from '@naru/protocol/batch';
import type { AssignedPartition, JoinSchema, PartitionRef, Records } from '@naru/protocol/proto';
import { VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { finished, turns } from '../../runtime/settling.ts';
import { RawClient, type RawSubscriber } from './raw-client.ts';

const FROM_TEXT = new TextDecoder();
const BEGINNING = { position: { case: 'beginning', value: true } } as const;
const GRACE_MS = 5_000;

let clock: VirtualClock;
let broker: Broker;
const clients: RawClient[] = [];
let admin: RawClient;
let directory: string | null = null;

beforeEach(async () => {
  clock = new VirtualClock();
  await startBroker({ storage: 'memory' });
});

afterEach(async () => {
  await stopBroker();
  if (directory !== null) await rm(directory, { recursive: true });
  directory = null;
});

async function startBroker(config: BrokerConfigInput): Promise<void> {
  broker = await Broker.start({ port: 0, ...config }, { clock, timers: clock });
  admin = newClient();
}

async function stopBroker(): Promise<void> {
  for (const client of clients.splice(0)) client.destroy();
  await finished(broker.close(), clock);
}

function newClient(): RawClient {
  const client = new RawClient(broker.bootstrap);
  clients.push(client);
  return client;
}

type JoinInit = Extract<MessageInitShape<typeof JoinSchema>, { $typeName?: never }>;
/** Undefined leaves a field out that has a value otherwise. */
type JoinOptions = { [Field in keyof JoinInit]?: JoinInit[Field] | undefined };

interface Member {
  readonly client: RawClient;
  readonly stream: RawSubscriber;
  readonly memberId: string;
  readonly memberEpoch: number;
}

/** Joins on a connection of its own, and waits for the answer. */
async function join(memberId: string, options: JoinOptions = {}): Promise<Member> {
  const client = newClient();
  const value = { groupId: 'payment', memberId, topics: ['orders'], start: BEGINNING, ...options } as JoinInit;
  const stream = client.subscribe({ case: 'join', value });
  const { memberEpoch } = await stream.take('joined');
  return { client, stream, memberId, memberEpoch };
}

function numbers(partitions: readonly (PartitionRef | undefined)[]): number[] {
  return partitions.map((ref) => ref?.partition ?? -1).sort((a, b) => a - b);
}

function assignedNumbers(assigned: readonly AssignedPartition[]): number[] {
  return numbers(assigned.map(({ partition }) => partition));
}

/** `partition/offset:value` */
function texts(records: Records): string[] {
  return records.partitions.flatMap(({ partition, batches }) =>
    splitBatches(batches).flatMap((batch) =>
      decodeRecords(batch, nodeCompressionCodecs).map(
        ({ offset, value }) => `${partition?.partition}/${offset}:${FROM_TEXT.decode(value as Uint8Array)}`,
      ),
    ),
  );
}

/** Polls until there are `count` records. */
async function consume({ stream }: Member, count: number): Promise<string[]> {
  const found: string[] = [];
  while (found.length < count) {
    stream.poll(60_000);
    found.push(...texts(await stream.take('records')));
  }
  return found;
}

/** Everything that a poll without waiting gives. */
async function glance({ stream }: Member): Promise<string[]> {
  stream.poll(0);
  return texts(await stream.take('records'));
}

async function members(): Promise<Record<string, number[]>> {
  const { members: found } = await admin.admin.describeGroup({ groupId: 'payment' });
  return Object.fromEntries(
    found.map(({ memberId, assigned, revoking }) => [
      memberId,
      [...assigned, ...revoking].flatMap(({ partitions }) => partitions).sort((a, b) => a - b),
    ]),
  );
}

/** Breaks a member's connection, and waits until the broker knows. */
async function crash({ client }: Member): Promise<void> {
  const before = await openStreams();
  client.destroy();
  while ((await openStreams()) >= before) await turns(1);
}

async function openStreams(): Promise<number> {
  const page = await (await fetch(`http://${broker.bootstrap}/metrics`)).text();
  return Number(/^naru_subscribe_streams (\d+)$/m.exec(page)?.[1]);
}

describe('partitions of a group', () => {
  it('belong to one member each, and move one by one when members join and leave', async () => {
    await admin.createTopic('orders', 4);
    const a = await join('a');
    expect(assignedNumbers(await a.stream.assigned(4))).toEqual([0, 1, 2, 3]);
    const b = await join('b');
    const revoked = await a.stream.take('revoked');
    expect(revoked.lost).toBe(false);
    expect(revoked.partitions).toHaveLength(2);
    // Nobody else has them before they are released.
    expect((await members())['b']).toEqual([]);
    a.stream.send({ case: 'released', value: { partitions: revoked.partitions } });
    expect(assignedNumbers(await b.stream.assigned(2))).toEqual(numbers(revoked.partitions));
    b.stream.send({ case: 'leave', value: {} });
    await b.stream.take('left');
    expect(await b.stream.ended).toBeNull();
    expect(assignedNumbers(await a.stream.assigned(2))).toEqual(numbers(revoked.partitions));
  });

  it('keep flowing while others are revoked', async () => {
    await admin.createTopic('orders', 2);
    const a = await join('a');
    await a.stream.assigned(2);
    await join('b');
    const revoked = await a.stream.take('revoked');
    expect(revoked.partitions).toHaveLength(1);
    const [gone] = numbers(revoked.partitions) as [number];
    await admin.publish('orders', 0, ['zero']);
    await admin.publish('orders', 1, ['one']);
    expect(await consume(a, 1)).toEqual([gone === 0 ? '1/0:one' : '0/0:zero']);
    expect(await glance(a)).toEqual([]);
  });

  it('can be committed to until they are released', async () => {
    await admin.createTopic('orders', 2);
    const a = await join('a');
    await a.stream.assigned(2);
    await admin.publish('orders', 0, ['x']);
    await admin.publish('orders', 1, ['x']);
    await consume(a, 2);
    const b = await join('b');
    const revoked = await a.stream.take('revoked');
    const [ref] = revoked.partitions;
    expect(await a.stream.commit(ref, 1)).toEqual([]);
    a.stream.send({ case: 'released', value: { partitions: revoked.partitions } });
    const [taken] = await b.stream.assigned(1);
    expect(taken?.committedOffset).toBe(1n);
    expect(taken?.position).toBe(1n);
    expect(await a.stream.commit(ref, 0), 'a late commit').toEqual(['STALE_MEMBER_EPOCH']);
  });

  it('are taken over when a member crashed and its grace time is over, and its late commits are fenced', async () => {
    await admin.createTopic('orders', 2);
    const a = await join('a');
    const assigned = await a.stream.assigned(2);
    await admin.publish('orders', 0, ['x']);
    const b = await join('b', { topics: ['orders'] });
    const { partitions } = await a.stream.take('revoked');
    a.stream.send({ case: 'released', value: { partitions } });
    await b.stream.assigned(1);
    await crash(a);
    clock.advance(GRACE_MS - 1);
    expect(Object.keys(await members())).toEqual(['a', 'b']);
    clock.advance(1);
    const kept = assigned.filter(({ partition }) => !numbers(partitions).includes(partition?.partition ?? -1));
    expect(assignedNumbers(await b.stream.assigned(1))).toEqual(assignedNumbers(kept));
    // It comes back too late, with what it knew.
    const late = newClient().subscribe({
      case: 'join',
      value: { groupId: 'payment', memberId: 'a', memberEpoch: a.memberEpoch, topics: ['orders'], start: BEGINNING },
    });
    expect(await late.error()).toMatchObject({ code: 'UNKNOWN_MEMBER_ID', retriable: false });
  });

  it('stay with a member that comes back in its grace time, which goes on without repetition', async () => {
    await admin.createTopic('orders', 1);
    await admin.publish('orders', 0, ['a', 'b']);
    const a = await join('a');
    const [first] = await a.stream.assigned(1);
    expect(await consume(a, 2)).toEqual(['0/0:a', '0/1:b']);
    await crash(a);
    await admin.publish('orders', 0, ['c']);
    clock.advance(GRACE_MS - 1);
    const again = await join('a', {
      memberEpoch: a.memberEpoch,
      owned: [{ ...(first?.partition === undefined ? {} : { partition: first.partition }), nextOffset: 2n }],
    });
    expect(again.memberEpoch).toBe(a.memberEpoch);
    clock.advance(GRACE_MS * 2);
    expect(await consume(again, 1)).toEqual(['0/2:c']);
    expect(again.stream.kinds(), 'it is not assigned again').toEqual([]);
    expect(await again.stream.commit(first?.partition, 3)).toEqual([]);
  });

  it('stay with a member whose new connection comes before the broker knows that the old one is gone', async () => {
    await admin.createTopic('orders', 1);
    const old = await join('a');
    const [first] = await old.stream.assigned(1);
    const owned = [{ ...(first?.partition === undefined ? {} : { partition: first.partition }), nextOffset: 0n }];
    const again = await join('a', { memberEpoch: old.memberEpoch, owned });
    expect(await old.stream.error()).toMatchObject({ code: 'FENCED_MEMBER_EPOCH' });
    while ((await openStreams()) > 1) await turns(1);
    clock.advance(GRACE_MS + 1);
    expect(await members()).toEqual({ a: [0] });
    await admin.publish('orders', 0, ['x']);
    expect(await consume(again, 1)).toEqual(['0/0:x']);
  });

  it('are taken from a member that is silent for its session time-out', async () => {
    await admin.createTopic('orders', 1);
    const a = await join('a', { sessionTimeoutMs: 10_000, maxPollIntervalMs: 600_000 });
    await a.stream.assigned(1);
    clock.advance(9_000);
    a.stream.send({ case: 'heartbeat', value: {} });
    await glance(a);
    clock.advance(9_999);
    expect(await members()).toEqual({ a: [0] });
    clock.advance(1);
    expect(await a.stream.error()).toMatchObject({ code: 'UNKNOWN_MEMBER_ID' });
    expect(await members()).toEqual({});
  });

  it('are taken from a member that is alive but does not get on', async () => {
    await admin.createTopic('orders', 1);
    const a = await join('a', { sessionTimeoutMs: 60_000, maxPollIntervalMs: 30_000 });
    await a.stream.assigned(1);
    await glance(a);
    clock.advance(20_000);
    a.stream.send({ case: 'heartbeat', value: {} });
    await members();
    clock.advance(10_000);
    expect(await a.stream.error()).toMatchObject({ code: 'MAX_POLL_INTERVAL_EXCEEDED' });
  });

  it('stay with a member that waits in a poll for longer than its poll interval', async () => {
    await admin.createTopic('orders', 1);
    const a = await join('a', { sessionTimeoutMs: 1_000_000, maxPollIntervalMs: 30_000 });
    await a.stream.assigned(1);
    for (let round = 0; round < 4; round++) {
      a.stream.poll(60_000);
      await members();
      clock.advance(15_000);
      expect(texts(await a.stream.take('records'))).toEqual([]);
      await members();
    }
    expect(await members()).toEqual({ a: [0] });
  });

  it('stay with a member that handled what it waited for within its poll interval', async () => {
    await admin.createTopic('orders', 1);
    const a = await join('a', { sessionTimeoutMs: 1_000_000, maxPollIntervalMs: 30_000 });
    await a.stream.assigned(1);
    a.stream.poll(15_000);
    await members();
    clock.advance(14_000);
    await admin.publish('orders', 0, ['x']);
    await a.stream.take('records');
    await members();
    clock.advance(29_000);
    expect(await members()).toEqual({ a: [0] });
    clock.advance(1_000);
    expect(await a.stream.error()).toMatchObject({ code: 'MAX_POLL_INTERVAL_EXCEEDED' });
  });

  it('are free as soon as the session of a member ends with an error', async () => {
    await admin.createTopic('orders', 1);
    const a = await join('a', { start: undefined });
    expect(await a.stream.error()).toMatchObject({ code: 'NO_OFFSET' });
    const b = await join('b');
    clock.advance(GRACE_MS);
    await b.stream.assigned(1);
  });

  it('come to groups that subscribe to a topic when it grows', async () => {
    await admin.createTopic('orders', 1);
    const a = await join('a');
    await a.stream.assigned(1);
    await admin.admin.addPartitions({ name: 'orders', partitionCount: 3, allowKeyReorder: true });
    expect(assignedNumbers(await a.stream.assigned(2))).toEqual([1, 2]);
    await admin.publish('orders', 2, ['x']);
    expect(await consume(a, 1)).toEqual(['2/0:x']);
  });

  it('are lost when their topic is deleted', async () => {
    await admin.createTopic('orders', 1);
    const a = await join('a');
    await a.stream.assigned(1);
    a.stream.poll(60_000);
    await admin.admin.deleteTopic({ name: 'orders' });
    const revoked = await a.stream.take('revoked');
    a.stream.send({ case: 'released', value: { partitions: revoked.partitions } });
    expect(numbers(revoked.partitions)).toEqual([0]);
  });

  it('are given to every group anew', async () => {
    await admin.createTopic('orders', 1);
    await admin.publish('orders', 0, ['x']);
    const a = await join('a');
    const other = await join('a', { groupId: 'audit' });
    expect(await consume(a, 1)).toEqual(['0/0:x']);
    expect(await consume(other, 1)).toEqual(['0/0:x']);
  });
});

describe('a group without committed offsets', () => {
  const start = (position: NonNullable<JoinInit['start']>['position']) => ({ start: { position } }) as JoinOptions;

  it.each([
    ['the beginning', { case: 'beginning', value: true }, 0],
    ['the end', { case: 'end', value: true }, 3],
    ['an offset', { case: 'offset', value: 2n }, 2],
    ['an offset beyond the end', { case: 'offset', value: 99n }, 3],
    ['a time', { case: 'timestampMs', value: 200n }, 1],
    ['a time to come', { case: 'timestampMs', value: 9_999_999_999_999n }, 3],
  ] as const)('begins at %s', async (_name, position, expected) => {
    await admin.createTopic('orders', 1);
    for (const timestampMs of [100n, 200n, 300n]) {
      await admin.publisher.publish({
        topic: 'orders',
        records: [{ value: new Uint8Array(1), timestampMs, partition: 0 }],
      });
    }
    const a = await join('a', start(position));
    const [assigned] = await a.stream.assigned(1);
    expect(assigned).toMatchObject({ position: BigInt(expected), highWatermark: 3n });
    expect(assigned?.committedOffset).toBeUndefined();
  });

  it('is refused when it does not say where to begin', async () => {
    await admin.createTopic('orders', 1);
    const a = await join('a', { start: undefined });
    expect(await a.stream.error()).toMatchObject({ code: 'NO_OFFSET', retriable: false });
  });
});

describe('a member', () => {
  it('seeks, and reads from there', async () => {
    await admin.createTopic('orders', 1);
    await admin.publish('orders', 0, ['a']);
    await admin.publish('orders', 0, ['b']);
    const a = await join('a');
    const [assigned] = await a.stream.assigned(1);
    expect(await consume(a, 2)).toEqual(['0/0:a', '0/1:b']);
    const partition = assigned?.partition as PartitionRef;
    a.stream.send({ case: 'seek', value: { partition, position: { position: { case: 'offset', value: 1n } } } });
    expect(await consume(a, 1)).toEqual(['0/1:b']);
    a.stream.send({ case: 'seek', value: { partition, position: BEGINNING } });
    expect(await consume(a, 2)).toEqual(['0/0:a', '0/1:b']);
  });

  it('pauses partitions, also while a poll waits, and resumes them', async () => {
    await admin.createTopic('orders', 2);
    const a = await join('a');
    const assigned = await a.stream.assigned(2);
    const zero = assigned[0]?.partition as PartitionRef;
    a.stream.poll(60_000);
    a.stream.send({ case: 'pause', value: { partitions: [zero] } });
    a.stream.send({ case: 'heartbeat', value: {} });
    await a.stream.commit(zero, 0);
    await admin.publish('orders', 0, ['paused']);
    await admin.publish('orders', 1, ['flows']);
    expect(texts(await a.stream.take('records'))).toEqual(['1/0:flows']);
    expect(await glance(a)).toEqual([]);
    a.stream.send({ case: 'pause', value: { partitions: [] } });
    expect(await consume(a, 1)).toEqual(['0/0:paused']);
  });

  it('is answered to each of its polls in their order, without giving a record twice', async () => {
    await admin.createTopic('orders', 1);
    const a = await join('a');
    await a.stream.assigned(1);
    const polls = [a.stream.poll(60_000), a.stream.poll(60_000), a.stream.poll(60_000)];
    const found: string[] = [];
    for (const [index, pollId] of polls.entries()) {
      await admin.publish('orders', 0, [`v${index}`]);
      const records = await a.stream.take('records');
      expect(records.pollId).toBe(pollId);
      found.push(...texts(records));
    }
    expect(found).toEqual(['0/0:v0', '0/1:v1', '0/2:v2']);
  });

  it('is answered to every one of many polls that follow each other at once', async () => {
    await admin.createTopic('orders', 1);
    const a = await join('a');
    await a.stream.assigned(1);
    for (let round = 0; round < 300; round++) {
      a.stream.poll(0);
      a.stream.poll(0);
      await a.stream.take('records');
      await a.stream.take('records');
    }
    expect(a.stream.kinds()).toEqual([]);
  });

  it('has its commits and finished ranges after a restart of the broker', async () => {
    await stopBroker();
    directory = await mkdtemp(joinPath(tmpdir(), 'naru-groups-'));
    const config = { storage: 'file', data: joinPath(directory, 'data') } as const;
    await startBroker(config);
    await admin.createTopic('orders', 1);
    await admin.publish('orders', 0, ['a', 'b', 'c', 'd', 'e']);
    const a = await join('a');
    const [assigned] = await a.stream.assigned(1);
    expect(
      await a.stream.commit(
        assigned?.partition,
        1,
        [
          [2, 3],
          [4, 5],
        ],
        'note',
      ),
    ).toEqual([]);
    await stopBroker();
    await startBroker(config);
    const again = await join('a');
    const [after] = await again.stream.assigned(1);
    expect(after).toMatchObject({ position: 1n, committedOffset: 1n, metadata: 'note', highWatermark: 5n });
    expect(after?.finished.map(({ from, to }) => [Number(from), Number(to)])).toEqual([
      [2, 3],
      [4, 5],
    ]);
    const { offsets } = await admin.admin.describeGroup({ groupId: 'payment' });
    expect(offsets[0]).toMatchObject({ committedOffset: 1n, lag: 2n });
  });

  it('cannot be taken out of a group by an operator while it is there', async () => {
    await admin.createTopic('orders', 1);
    await join('a');
    const to = { position: { case: 'beginning', value: true } } as const;
    const reset = admin.admin.resetOffsets({ groupId: 'payment', topics: ['orders'], to, execute: true });
    expect(await admin.error(reset)).toMatchObject({ code: 'NON_EMPTY_GROUP' });
    expect(await admin.error(admin.admin.deleteGroup({ groupId: 'payment' }))).toMatchObject({
      code: 'NON_EMPTY_GROUP',
    });
  });
});

describe('a reader without a group', () => {
  it('has all partitions, also new ones, each once, and commits nothing', async () => {
    await admin.createTopic('orders', 1);
    const reader = await join('r', { groupId: '' });
    const [assigned] = await reader.stream.assigned(1);
    await Promise.all([
      admin.admin.addPartitions({ name: 'orders', partitionCount: 2, allowKeyReorder: true }),
      admin.createTopic('other', 1),
    ]);
    expect(assignedNumbers(await reader.stream.assigned(1))).toEqual([1]);
    expect(await reader.stream.commit(assigned?.partition, 0)).toEqual(['INVALID_REQUEST']);
    await admin.publish('orders', 1, ['x']);
    expect(await consume(reader, 1)).toEqual(['1/0:x']);
    expect(reader.stream.kinds()).toEqual([]);
    expect((await admin.admin.listGroups({})).groups).toEqual([]);
  });
});
