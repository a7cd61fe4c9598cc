/** Parallel topics through the gRPC door, without an SDK, on time that the test owns. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { createClient, type Client } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { Broker, type BrokerConfigInput } from '@naru/broker';
import { decodeRecords, splitBatches } from '@naru/protocol/batch';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import {
  DeadLetterService,
  SettlementKind,
  TopicType,
  type Acquired,
  type PartitionRef,
  type Records,
} from '@naru/protocol/proto';
import { VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { finished, turns } from '../../runtime/settling.ts';
import { RawClient, type RawSubscriber } from './raw-client.ts';

const FROM_TEXT = new TextDecoder();
const BEGINNING = { position: { case: 'beginning', value: true } } as const;
const LOCK_MS = 30_000;
const { ACCEPT, RETURN, FAIL, REJECT, RENEW } = SettlementKind;

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

/** Stops the broker of this test and starts it anew on what is stored; the first call moves to a directory. */
async function restart(): Promise<void> {
  await stopBroker();
  directory ??= await mkdtemp(joinPath(tmpdir(), 'naru-parallel-'));
  await startBroker({ storage: 'file', data: directory });
}

async function deadLetters(): Promise<string[]> {
  const { deadLetters: found } = await lettersOf().listDeadLetters({ filter: { groupId: 'work' } });
  return found.map(({ offset, reason, attempts }) => `${offset} ${reason} ${attempts}`);
}

/** Until what the broker does by itself is done. */
async function eventually(read: () => Promise<string[]>, count: number): Promise<string[]> {
  for (let turn = 0; turn < 1_000; turn++) {
    const found = await read();
    if (found.length === count) return found;
  }
  return read();
}

function lettersOf(): Client<typeof DeadLetterService> {
  return createClient(DeadLetterService, createGrpcTransport({ baseUrl: `http://${broker.bootstrap}` }));
}

function newClient(): RawClient {
  const client = new RawClient(broker.bootstrap);
  clients.push(client);
  return client;
}

async function createTopic(name: string, partitionCount = 1, config: Record<string, string> = {}): Promise<void> {
  await admin.admin.createTopic({ name, partitionCount, type: TopicType.PARALLEL, config });
}

interface Member {
  readonly client: RawClient;
  readonly stream: RawSubscriber;
  readonly partitions: readonly (PartitionRef | undefined)[];
}

/** @param count partitions that the member is told of */
async function join(memberId: string, topics = ['jobs'], count = 1): Promise<Member> {
  const client = newClient();
  const stream = client.subscribe({ case: 'join', value: { groupId: 'work', memberId, topics, start: BEGINNING } });
  await stream.take('joined');
  const assigned = await stream.assigned(count);
  return { client, stream, partitions: assigned.map(({ partition }) => partition) };
}

/** `partition/offset:value×delivery` of what was acquired. */
function texts({ acquired }: Pick<Records, 'acquired'>): string[] {
  return acquired.flatMap(({ partition, batches, ranges }: Acquired) => {
    const records = splitBatches(batches).flatMap((batch) => decodeRecords(batch, nodeCompressionCodecs));
    return ranges.flatMap(({ offsets, deliveryCount }) =>
      records
        .filter(({ offset }) => offset >= Number(offsets?.from) && offset < Number(offsets?.to))
        .map(({ offset, value }) => {
          const text = FROM_TEXT.decode(value ?? new Uint8Array());
          return `${partition?.partition ?? 0}/${offset}:${text}×${deliveryCount}`;
        }),
    );
  });
}

async function poll({ stream }: Member, maxWaitMs = 0): Promise<string[]> {
  stream.poll(maxWaitMs);
  return texts(await stream.take('records'));
}

/** Codes of what was refused. */
async function settle(
  { stream, partitions }: Member,
  kind: SettlementKind,
  from: number,
  to: number,
  delayMs = 0,
): Promise<string[]> {
  const [partition] = partitions;
  const offsets = { from: BigInt(from), to: BigInt(to) };
  const records = [{ offsets, kind, delayMs: BigInt(delayMs), reason: kind === REJECT ? 'rejected' : '' }];
  stream.send({
    case: 'settle',
    value: { settleId: 1, partitions: [partition === undefined ? { records } : { partition, records }] },
  });
  const { refused } = await stream.take('settled');
  return refused.map(({ error, offsets: range }) => `${range?.from}–${range?.to} ${error?.code}`);
}

async function publish(values: readonly string[], partition = 0): Promise<void> {
  await admin.publish('jobs', partition, values);
}

describe('A member of a group on a parallel topic', () => {
  it('is told of every partition, beside the others, and takes what the others do not have', async () => {
    await createTopic('jobs', 2);
    const a = await join('a', ['jobs'], 2);
    const b = await join('b', ['jobs'], 2);
    expect(a.partitions).toHaveLength(2);
    expect(b.partitions).toEqual(a.partitions);
    await publish(['x', 'y']);
    expect(await poll(a)).toEqual(['0/0:x×1', '0/1:y×1']);
    expect(await poll(b)).toEqual([]);
    await publish(['z'], 1);
    expect(await poll(b)).toEqual(['1/0:z×1']);
  });

  it('waits for records, which others are not given within its lock, and are after it', async () => {
    await createTopic('jobs');
    const [a, b] = [await join('a'), await join('b')];
    const waiting = poll(a, 10_000);
    await turns(20);
    await publish(['x']);
    expect(await waiting).toEqual(['0/0:x×1']);
    const other = poll(b, 100_000);
    await turns(20);
    clock.advance(LOCK_MS - 1);
    a.stream.send({ case: 'heartbeat', value: {} });
    b.stream.send({ case: 'heartbeat', value: {} });
    await turns(20);
    expect(b.stream.kinds()).toEqual([]);
    clock.advance(1);
    expect(await other).toEqual(['0/0:x×2']);
    expect(await settle(a, ACCEPT, 0, 1)).toEqual(['0–1 RECORD_LOCK_LOST']);
    expect(await settle(b, ACCEPT, 0, 1)).toEqual([]);
  });

  it('keeps a record for as long as it renews its lock', async () => {
    await createTopic('jobs');
    const [a, b] = [await join('a'), await join('b')];
    await publish(['x']);
    await poll(a);
    clock.advance(LOCK_MS / 2);
    expect(await settle(a, RENEW, 0, 1)).toEqual([]);
    clock.advance(LOCK_MS - 1_000);
    await turns(20);
    expect(await poll(b)).toEqual([]);
    expect(await settle(a, ACCEPT, 0, 1)).toEqual([]);
  });

  it('gives a record back uncounted, and a failed one counted, after the delay that it says', async () => {
    await createTopic('jobs');
    const a = await join('a');
    await publish(['x', 'y']);
    await poll(a);
    expect(await settle(a, RETURN, 0, 1)).toEqual([]);
    expect(await settle(a, FAIL, 1, 2, 5_000)).toEqual([]);
    expect(await poll(a)).toEqual(['0/0:x×1']);
    const waiting = poll(a, 20_000);
    await turns(20);
    expect(a.stream.kinds()).toEqual([]);
    clock.advance(5_000);
    expect(await waiting).toEqual(['0/1:y×2']);
  });

  it('has the others go on at once when it leaves, uncounted', async () => {
    await createTopic('jobs');
    const [a, b] = [await join('a'), await join('b')];
    await publish(['x']);
    await poll(a);
    const waiting = poll(b, 10_000);
    a.stream.send({ case: 'leave', value: {} });
    await a.stream.take('left');
    expect(await waiting).toEqual(['0/0:x×1']);
  });

  it('has counted against its records that it died with them', async () => {
    await createTopic('jobs');
    const [a, b] = [await join('a'), await join('b')];
    await publish(['x']);
    await poll(a);
    a.client.destroy();
    await turns(200);
    const waiting = poll(b, 20_000);
    await turns(50);
    clock.advance(5_000);
    expect(await waiting).toEqual(['0/0:x×2']);
  });

  it('reads ordered and parallel topics with one poll, whichever has something first', async () => {
    await createTopic('jobs');
    await admin.createTopic('orders');
    const a = await join('a', ['jobs', 'orders'], 2);
    a.stream.poll(10_000);
    await turns(20);
    await publish(['x']);
    expect(texts(await a.stream.take('records'))).toEqual(['0/0:x×1']);
    a.stream.poll(10_000);
    await turns(20);
    await admin.publish('orders', 0, ['o']);
    const { partitions, acquired } = await a.stream.take('records');
    expect([partitions.length, acquired.length]).toEqual([1, 0]);
    // A poll that does not wait looks at both.
    await publish(['y']);
    a.stream.poll(0);
    expect(texts(await a.stream.take('records'))).toEqual(['0/1:y×1']);
  });

  it('gets its share while another waits too', async () => {
    await createTopic('jobs');
    const [a, b] = [await join('a'), await join('b')];
    const both = [poll(a, 10_000), poll(b, 10_000)];
    await turns(50);
    await publish(Array.from({ length: 10 }, (_, index) => String(index)));
    const [first, second] = await Promise.all(both);
    expect([first?.length, second?.length]).toEqual([5, 5]);
    expect(new Set([...(first ?? []), ...(second ?? [])]).size).toBe(10);
  });

  it('is given no more than the topic allows to be out', async () => {
    await createTopic('jobs', 1, { 'delivery.max.in.flight': '3' });
    const a = await join('a');
    await publish(['v', 'w', 'x', 'y']);
    expect(await poll(a)).toHaveLength(3);
    expect(await poll(a)).toEqual([]);
    await settle(a, ACCEPT, 1, 2);
    expect(await poll(a)).toEqual(['0/3:y×1']);
  });

  it('cannot commit offsets there', async () => {
    await createTopic('jobs');
    const a = await join('a');
    await publish(['x']);
    expect(await a.stream.commit(a.partitions[0], 1)).toEqual(['INVALID_REQUEST']);
  });

  it('is told of a topic’s partitions that come and go', async () => {
    await createTopic('jobs');
    const a = await join('a');
    await admin.admin.addPartitions({ name: 'jobs', partitionCount: 2 });
    expect((await a.stream.assigned(1)).map(({ partition }) => partition?.partition)).toEqual([1]);
    await publish(['x'], 1);
    expect(await poll(a)).toEqual(['1/0:x×1']);
    await admin.admin.deleteTopic({ name: 'jobs' });
    const { partitions, lost } = await a.stream.take('revoked');
    expect([partitions.length, lost]).toEqual([2, true]);
  });
});

describe('A record that fails', () => {
  it('is a dead letter after its last delivery, or when it is rejected, and does not come again', async () => {
    await createTopic('jobs', 1, { 'delivery.limit': '2' });
    const a = await join('a');
    await publish(['x', 'y', 'z']);
    expect(await poll(a)).toHaveLength(3);
    expect(await settle(a, REJECT, 0, 1)).toEqual([]);
    expect(await settle(a, FAIL, 1, 3)).toEqual([]);
    expect(await poll(a)).toEqual(['0/1:y×2', '0/2:z×2']);
    expect(await settle(a, FAIL, 1, 2)).toEqual([]);
    expect(await deadLetters()).toEqual(['0 rejected 1', '1 attempts-exhausted 2']);
    // The lock of the last one ends: nobody tells why.
    clock.advance(LOCK_MS);
    expect(await eventually(deadLetters, 3)).toEqual([
      '0 rejected 1',
      '1 attempts-exhausted 2',
      '2 attempts-exhausted 2',
    ]);
    expect(await poll(a)).toEqual([]);
  });

  it('comes again when it is redriven, with its own lock, and is done with when it is accepted', async () => {
    await createTopic('jobs');
    const [a, b] = [await join('a'), await join('b')];
    await publish(['x', 'y']);
    await poll(a);
    await settle(a, REJECT, 0, 2);
    const waiting = poll(b, 10_000);
    await turns(20);
    await lettersOf().redriveDeadLetters({ filter: { groupId: 'work' } });
    expect(await waiting).toEqual(['0/0:x×1', '0/1:y×1']);
    expect(await poll(a)).toEqual([]);
    expect(await settle(a, ACCEPT, 0, 1)).toEqual(['0–1 RECORD_LOCK_LOST']);
    expect(await settle(b, ACCEPT, 0, 1)).toEqual([]);
    expect(await settle(b, FAIL, 1, 2)).toEqual([]);
    expect(await poll(a)).toEqual(['0/1:y×2']);
    expect(await settle(a, REJECT, 1, 2)).toEqual([]);
    expect(await deadLetters()).toEqual(['1 rejected 2']);
  });
});

describe('After a restart of the broker', () => {
  it('what was delivered is counted, locks have their whole time again, delays and dead letters are kept', async () => {
    await restart();
    await createTopic('jobs');
    const a = await join('a');
    await publish(['v', 'w', 'x', 'y', 'z']);
    await poll(a);
    await settle(a, ACCEPT, 0, 1);
    await settle(a, FAIL, 1, 2);
    await settle(a, FAIL, 2, 3, 20_000);
    await settle(a, REJECT, 3, 4);
    await restart();
    const b = await join('b');
    expect(await poll(b)).toEqual(['0/1:w×2']);
    expect(await deadLetters()).toEqual(['3 rejected 1']);
    const delayed = poll(b, 25_000);
    await turns(20);
    clock.advance(20_000);
    expect(await delayed).toEqual(['0/2:x×2']);
    await settle(b, ACCEPT, 1, 2);
    // a did not come back: its session ends after its lock.
    const last = poll(b, 25_000);
    await turns(20);
    clock.advance(LOCK_MS - 20_000);
    expect(await last).toEqual(['0/4:z×2']);
  });
});

describe('A member that speaks in single calls', () => {
  it('polls records with their delivery count, and acknowledges them by request id', async () => {
    await createTopic('jobs');
    await publish(['x', 'y', 'z']);
    const { sessionId, assigned } = await admin.calls.join({ groupId: 'work', topics: ['jobs'], start: BEGINNING });
    expect(assigned).toHaveLength(1);
    const { records } = await admin.calls.poll({ sessionId, maxWaitMs: 1_000, maxRecords: 2 });
    expect(records.map(({ valueText, deliveryCount }) => [valueText, deliveryCount])).toEqual([
      ['x', 1],
      ['y', 1],
    ]);
    const [x, y] = records.map(({ requestId }) => requestId);
    const { refused } = await admin.calls.ack({
      sessionId,
      requestIds: [x ?? ''],
      settlements: [{ requestId: y ?? '', kind: FAIL }],
    });
    expect(refused).toEqual([]);
    const again = await admin.calls.poll({ sessionId, maxWaitMs: 1_000 });
    expect(again.records.map(({ valueText, deliveryCount }) => [valueText, deliveryCount])).toEqual([
      ['y', 2],
      ['z', 1],
    ]);
    const twice = await admin.calls.ack({ sessionId, requestIds: [x ?? ''] });
    expect(twice.refused.map(({ requestId, error }) => [requestId, error?.code])).toEqual([[x, 'RECORD_LOCK_LOST']]);
  });

  it('gets again what was in an answer that was lost, uncounted', async () => {
    await createTopic('jobs');
    await publish(['x']);
    const { sessionId } = await admin.calls.join({ groupId: 'work', topics: ['jobs'], start: BEGINNING });
    const lost = await admin.calls.poll({ sessionId, maxWaitMs: 1_000, received: 0 });
    expect(lost.records).toHaveLength(1);
    const again = await admin.calls.poll({ sessionId, maxWaitMs: 1_000, received: 0 });
    expect(again.records.map(({ valueText, deliveryCount }) => [valueText, deliveryCount])).toEqual([['x', 1]]);
  });

  it('is refused an id that is none', async () => {
    await createTopic('jobs');
    const { sessionId } = await admin.calls.join({ groupId: 'work', topics: ['jobs'], start: BEGINNING });
    const error = await admin.error(admin.calls.ack({ sessionId, requestIds: ['what'] }));
    expect(error?.code).toBe('INVALID_REQUEST');
  });
});

describe('An operator', () => {
  it('sees what is given out, finished and left of a parallel topic, and can begin anew', async () => {
    await createTopic('jobs');
    const a = await join('a');
    await publish(['v', 'w', 'x', 'y']);
    a.stream.send({ case: 'pause', value: { partitions: [] } });
    await poll(a);
    await settle(a, ACCEPT, 1, 2);
    await settle(a, RETURN, 2, 3, 60_000);
    await publish(['z']);
    const { offsets } = await admin.admin.describeGroup({ groupId: 'work' });
    expect(offsets).toHaveLength(1);
    expect(offsets[0]).toMatchObject({
      committedOffset: 0n,
      lag: 4n,
      finished: [{ from: 1n, to: 2n }],
      queue: { available: 2n, acquired: 2n, finished: 1n, dying: 0n, oldest: 0n, holders: 1 },
    });
    a.stream.send({ case: 'leave', value: {} });
    await a.stream.take('left');
    const { changes } = await admin.admin.resetOffsets({
      groupId: 'work',
      topics: ['jobs'],
      to: { position: { case: 'offset', value: 4n } },
      execute: true,
    });
    expect(changes).toMatchObject([{ from: 0n, to: 4n }]);
    expect(await poll(await join('b'))).toEqual(['0/4:z×1']);
  });

  it('has events of a parallel topic deleted that every declared group has finished, with cleanup.policy=acknowledged', async () => {
    await createTopic('jobs', 1, {
      'cleanup.policy': 'acknowledged',
      'acknowledged.groups': 'work',
      groups: 'work',
    });
    const a = await join('a');
    await publish(['x', 'y', 'z']);
    await poll(a);
    await settle(a, ACCEPT, 0, 1);
    await settle(a, ACCEPT, 2, 3);
    // Retention looks every 30 s; the lock of the middle one is renewed meanwhile.
    await settle(a, RENEW, 1, 2);
    clock.advance(LOCK_MS - 1);
    await settle(a, RENEW, 1, 2);
    clock.advance(10_000);
    await turns(50);
    const { offsets } = await admin.admin.describeGroup({ groupId: 'work' });
    expect(offsets[0]).toMatchObject({ logStartOffset: 1n, committedOffset: 1n, queue: { acquired: 1n } });
  });
});
