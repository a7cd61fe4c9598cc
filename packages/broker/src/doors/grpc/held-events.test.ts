/** Held events, blocked keys and dead letters through the gRPC door, without an SDK, on time that the test owns. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { createClient, type Client } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { Broker, type BrokerConfigInput } from '@naru/broker';
import { keyId } from '@naru/protocol';
import { decodeRecords } from '@naru/protocol/batch';
import { DeadLetterService, OutcomeKind, type HeldEvents, type PartitionRef } from '@naru/protocol/proto';
import { VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { finished, turns } from '../../runtime/settling.ts';
import { RawClient, type RawSubscriber } from './raw-client.ts';

const TEXT = new TextEncoder();
const FROM_TEXT = new TextDecoder();
const BEGINNING = { position: { case: 'beginning', value: true } } as const;

let clock: VirtualClock;
let broker: Broker;
let client: RawClient;
let deadLetters: Client<typeof DeadLetterService>;
let directory: string | null = null;
const clients: RawClient[] = [];

beforeEach(() => {
  clock = new VirtualClock();
  clock.advance(1_000_000);
});

afterEach(async () => {
  await stopBroker();
  if (directory !== null) await rm(directory, { recursive: true });
  directory = null;
});

async function startBroker(config: BrokerConfigInput = { storage: 'memory' }): Promise<void> {
  broker = await Broker.start({ port: 0, ...config }, { clock, timers: clock });
  client = newClient();
  deadLetters = createClient(DeadLetterService, createGrpcTransport({ baseUrl: `http://${broker.bootstrap}` }));
}

async function stopBroker(): Promise<void> {
  for (const one of clients.splice(0)) one.destroy();
  await finished(broker.close(), clock);
}

function newClient(): RawClient {
  const made = new RawClient(broker.bootstrap);
  clients.push(made);
  return made;
}

/** `key=value` each, into partition 0. */
async function publish(...events: string[]): Promise<void> {
  const records = events.map((event) => {
    const [key = '', value = ''] = event.split('=');
    return { key: TEXT.encode(key), value: TEXT.encode(value), partition: 0, headers: [{ key: 'h', valueText: key }] };
  });
  const { results } = await client.publisher.publish({ topic: 'orders', records });
  expect(results.map(({ error }) => error?.code)).toEqual(results.map(() => undefined));
}

interface Member {
  readonly stream: RawSubscriber;
  readonly partition: PartitionRef;
  readonly blockedKeys: readonly string[];
}

async function join(memberId: string): Promise<Member> {
  const own = newClient();
  const value = { groupId: 'payment', memberId, topics: ['orders'], start: BEGINNING };
  const stream = own.subscribe({ case: 'join', value });
  await stream.take('joined');
  const [assigned] = await stream.assigned(1);
  return { stream, partition: assigned?.partition as PartitionRef, blockedKeys: assigned?.blockedKeys ?? [] };
}

interface Told {
  readonly offset: number;
  readonly kind: OutcomeKind;
  readonly attempts?: number;
  readonly nextAttemptMs?: number;
  readonly reason?: string;
  readonly error?: string;
}

/** Codes of what was refused. */
async function commit({ stream, partition }: Member, offset: number, ...outcomes: Told[]): Promise<string[]> {
  const told = outcomes.map(({ offset: at, kind, attempts = 1, nextAttemptMs = 0, reason = '', error = '' }) => {
    const failure = { firstFailureMs: 1_000n, lastFailureMs: 2_000n };
    return { offset: BigInt(at), kind, attempts, nextAttemptMs: BigInt(nextAttemptMs), reason, error, ...failure };
  });
  stream.send({
    case: 'commit',
    value: { commitId: 1, partitions: [{ partition, offset: BigInt(offset), outcomes: told }] },
  });
  const { errors } = await stream.take('committed');
  return errors.map(({ error }) => `${error?.code}: ${error?.message}`);
}

/** `offset:key=value attempts`, with a star when it was redriven. */
function texts({ events }: HeldEvents): string[] {
  return events.flatMap(({ batch, attempts, redriven }) =>
    decodeRecords(batch).map(({ offset, key, value }) => {
      const star = redriven ? '*' : '';
      return `${offset}:${FROM_TEXT.decode(key ?? undefined)}=${FROM_TEXT.decode(value ?? undefined)} ${attempts}${star}`;
    }),
  );
}

const idOf = (text: string): string => keyId(TEXT.encode(text));
const { PROCESSED, HELD, DEAD_LETTERED } = OutcomeKind;

it('a held event and its successors come again in their order, at their time, while other keys go on', async () => {
  await startBroker();
  await client.createTopic('orders');
  await publish('a=0', 'b=1', 'a=2', 'b=3');
  const member = await join('m');
  const retryAtMs = clock.nowMs() + 5_000;
  const held = { offset: 0, kind: HELD, attempts: 2, nextAttemptMs: retryAtMs };
  expect(await commit(member, 4, held, { offset: 2, kind: HELD, attempts: 0 })).toEqual([]);
  // Told before the answer.
  expect((await member.stream.take('blockedKeys')).blocked).toEqual([idOf('a')]);
  await turns(20);
  expect(member.stream.inbox).toEqual([]);
  clock.advance(5_000);
  expect(texts(await member.stream.take('held'))).toEqual(['0:a=0 2']);
  await turns(20);
  expect(member.stream.inbox).toEqual([]);
  expect(await commit(member, 4, { offset: 0, kind: PROCESSED })).toEqual([]);
  expect(texts(await member.stream.take('held'))).toEqual(['2:a=2 0']);
  expect(await commit(member, 4, { offset: 2, kind: PROCESSED })).toEqual([]);
  expect((await member.stream.take('blockedKeys')).unblocked).toEqual([idOf('a')]);
});

it('a dead letter can be listed, looked at, redriven once, and purged', async () => {
  await startBroker();
  await client.createTopic('orders');
  await publish('a=0', 'a=1', 'b=2');
  const member = await join('m');
  const dead = { kind: DEAD_LETTERED, attempts: 5, reason: 'attempts-exhausted', error: 'no such card' };
  expect(await commit(member, 3, { offset: 0, ...dead }, { offset: 2, ...dead, reason: 'rejected' })).toEqual([]);
  const filter = { groupId: 'payment' };
  const list = await deadLetters.listDeadLetters({ filter });
  expect(list.deadLetters.map(({ offset, keyText, reason, attempts }) => [offset, keyText, reason, attempts])).toEqual([
    [0n, 'a', 'attempts-exhausted', 5],
    [2n, 'b', 'rejected', 5],
  ]);
  expect([list.total, list.nextCursor]).toEqual([2n, '']);
  const [first] = list.deadLetters;
  const { record } = await deadLetters.getDeadLetter({ groupId: 'payment', id: first?.id ?? '' });
  expect([record?.keyText, record?.valueText, record?.requestId]).toEqual(['a', '0', first?.id]);
  const headers = Object.fromEntries((record?.headers ?? []).map(({ key, valueText }) => [key, valueText]));
  expect(headers).toEqual({
    h: 'a',
    'naru-dlq-reason': 'attempts-exhausted',
    'naru-dlq-error': 'no such card',
    'naru-dlq-attempts': '5',
    'naru-dlq-first-failure': '1970-01-01T00:00:01.000Z',
    'naru-dlq-last-failure': '1970-01-01T00:00:02.000Z',
    'naru-dlq-origin-topic': 'orders',
    'naru-dlq-origin-partition': '0',
    'naru-dlq-origin-offset': '0',
    'naru-dlq-request-id': first?.id,
    'naru-dlq-group': 'payment',
  });
  const dry = await deadLetters.redriveDeadLetters({ filter, dryRun: true, limit: 1 });
  expect([dry.redriven.length, dry.nextCursor !== '']).toEqual([1, true]);
  const page = await deadLetters.redriveDeadLetters({ filter, limit: 1 });
  expect(page.redriven.map(({ offset }) => offset)).toEqual([0n]);
  expect(texts(await member.stream.take('held'))).toEqual(['0:a=0 0*']);
  const again = await deadLetters.redriveDeadLetters({ filter: { ...filter, ids: [first?.id ?? '', 'nonsense'] } });
  expect(again.redriven).toEqual([]);
  expect(again.refused).toHaveLength(2);
  const purged = await deadLetters.purgeDeadLetters({ filter, cursor: page.nextCursor, untilMs: page.untilMs });
  expect(purged.purged.map(({ offset }) => offset)).toEqual([2n]);
  expect(await commit(member, 3, { offset: 0, kind: PROCESSED })).toEqual([]);
  expect((await deadLetters.listDeadLetters({ filter })).total).toBe(0n);
  expect(await client.error(deadLetters.getDeadLetter({ groupId: 'payment', id: first?.id ?? '' }))).toMatchObject({
    code: 'DEAD_LETTER_NOT_FOUND',
  });
});

it('a parked key is told before its commit is answered, and what was held behind follows after a redrive', async () => {
  await startBroker();
  await client.createTopic('orders');
  await client.admin.changeTopicConfig({ name: 'orders', set: { groups: 'payment:after-dead-letter=park' } });
  await publish('a=0', 'a=1');
  const member = await join('m');
  expect(await commit(member, 1, { offset: 0, kind: DEAD_LETTERED, reason: 'non-retriable' })).toEqual([]);
  // It came before the answer.
  expect(member.stream.kinds()).toEqual(['blockedKeys']);
  expect((await member.stream.take('blockedKeys')).blocked).toEqual([idOf('a')]);
  expect(await commit(member, 2, { offset: 1, kind: HELD, attempts: 0 })).toEqual([]);
  const { held } = await client.admin.describeGroup({ groupId: 'payment' });
  expect(held).toMatchObject({ events: 2n, full: false, maxEvents: 100_000n });
  expect(held?.partitions).toMatchObject([{ topic: 'orders', partition: 0, waiting: 1n, dead: 1n, blockedKeys: 1n }]);
  const [letter] = (await deadLetters.listDeadLetters({ filter: { groupId: 'payment' } })).deadLetters;
  expect(letter?.parkedBehind).toBe(1);
  await turns(20);
  expect(member.stream.inbox).toEqual([]);
  await deadLetters.redriveDeadLetters({ filter: { groupId: 'payment' } });
  expect(texts(await member.stream.take('held'))).toEqual(['0:a=0 0*']);
  expect(await commit(member, 2, { offset: 0, kind: PROCESSED })).toEqual([]);
  expect(texts(await member.stream.take('held'))).toEqual(['1:a=1 0']);
  expect(await commit(member, 2, { offset: 1, kind: PROCESSED })).toEqual([]);
  expect((await member.stream.take('blockedKeys')).unblocked).toEqual([idOf('a')]);
});

it('held events survive a restart, and go to whoever has the partition then', async () => {
  directory = await mkdtemp(joinPath(tmpdir(), 'naru-held-'));
  const config = { storage: 'file', data: joinPath(directory, 'data') } as const;
  await startBroker(config);
  await client.createTopic('orders');
  await publish('a=0', 'a=1');
  const before = await join('m');
  expect(await commit(before, 2, { offset: 0, kind: HELD }, { offset: 1, kind: HELD, attempts: 0 })).toEqual([]);
  await stopBroker();
  await startBroker(config);
  const after = await finished(join('m'), clock);
  expect(after.blockedKeys).toEqual([idOf('a')]);
  expect(texts(await after.stream.take('held'))).toEqual(['0:a=0 1']);
});

it('dead letters are reached over Connect with JSON', async () => {
  await startBroker();
  await client.createTopic('orders');
  await publish('a=0');
  const member = await join('m');
  await commit(member, 1, { offset: 0, kind: DEAD_LETTERED, reason: 'rejected' });
  const answer = await fetch(`http://${broker.bootstrap}/naru.v1.DeadLetterService/ListDeadLetters`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ filter: { groupId: 'payment' } }),
  });
  expect(await answer.json()).toMatchObject({
    deadLetters: [{ topic: 'orders', reason: 'rejected', state: 'DEAD_LETTER_STATE_DEAD', keyText: 'a' }],
    total: '1',
  });
});

it('a member of single calls is given held events in its polls, and not those of blocked keys', async () => {
  await startBroker();
  await client.createTopic('orders');
  await publish('a=0', 'b=1');
  const first = await join('m');
  const dead = { offset: 0, kind: DEAD_LETTERED, reason: 'rejected' };
  expect(await commit(first, 2, dead)).toEqual([]);
  first.stream.send({ case: 'leave', value: {} });
  await first.stream.take('left');
  await deadLetters.redriveDeadLetters({ filter: { groupId: 'payment' } });
  await publish('a=2', 'b=3');
  const { sessionId } = await client.calls.join({ groupId: 'payment', topics: ['orders'], start: BEGINNING });
  const given: string[] = [];
  const poll = async (received?: number): Promise<number> => {
    const answer = await finished(
      client.calls.poll({ sessionId, maxWaitMs: 1_000, ...(received === undefined ? {} : { received }) }),
      clock,
    );
    for (const { offset, keyText, valueText, deliveryCount } of answer.records) {
      given.push(`${offset}:${keyText}=${valueText} ${deliveryCount}`);
    }
    return answer.pollId;
  };
  let last = 0;
  while (given.length < 2) last = await poll();
  expect(given.sort()).toEqual(['0:a=0 1', '3:b=3 0']);
  const { failed } = await client.calls.commit({ sessionId, pollId: last });
  expect(failed).toEqual([]);
  // Held for the member by the broker, and given now.
  while (given.length < 3) last = await poll();
  expect(given[2]).toBe('2:a=2 1');
  await client.calls.commit({ sessionId, pollId: last });
  expect((await deadLetters.listDeadLetters({ filter: { groupId: 'payment' } })).total).toBe(0n);
  const { offsets } = await client.admin.describeGroup({ groupId: 'payment' });
  expect(offsets.map(({ committedOffset }) => committedOffset)).toEqual([4n]);
  await publish('a=4');
  while (given.length < 4) last = await poll();
  expect(given[3]).toBe('4:a=4 0');
});
