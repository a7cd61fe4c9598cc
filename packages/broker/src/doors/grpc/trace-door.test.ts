/** Traces, waits and claims through the gRPC door, without an SDK, on time that the test owns. Traces are asked for as JSON. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { Broker, type BrokerConfigInput } from '@naru/broker';
import { encodeRequestId } from '@naru/protocol';
import { topicIdFromBytes } from '@naru/base';
import { ClaimState, OutcomeKind, SettlementKind, TopicType, type PartitionRef } from '@naru/protocol/proto';
import { VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { finished, turns, watched } from '../../runtime/settling.ts';
import { RawClient, type RawSubscriber } from './raw-client.ts';

const BEGINNING = { position: { case: 'beginning', value: true } } as const;
const TEXT = new TextEncoder();

let clock: VirtualClock;
let broker: Broker;
let admin: RawClient;
let directory: string | null = null;
const clients: RawClient[] = [];

beforeEach(() => {
  clock = new VirtualClock();
});

afterEach(async () => {
  await stop();
  if (directory !== null) await rm(directory, { recursive: true });
  directory = null;
});

async function start(config: BrokerConfigInput = {}): Promise<void> {
  broker = await Broker.start({ port: 0, storage: 'memory', ...config }, { clock, timers: clock });
  admin = newClient();
}

async function stop(): Promise<void> {
  for (const client of clients.splice(0)) client.destroy();
  await finished(broker.close(), clock);
}

function newClient(): RawClient {
  const client = new RawClient(broker.bootstrap);
  clients.push(client);
  return client;
}

async function call(method: string, request: object): Promise<Record<string, unknown>> {
  const response = await fetch(`http://${broker.bootstrap}/naru.v1.TraceService/${method}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(request),
  });
  return (await response.json()) as Record<string, unknown>;
}

interface Told extends Record<string, unknown> {
  groupId: string;
  state: string;
  history?: { what: string; memberId?: string; atMs: string }[];
}

/** Of each group: its state, and the fields that are asked for. */
async function trace(requestId: string, ...fields: string[]): Promise<Record<string, unknown>> {
  const { groups = [] } = (await call('Trace', { requestId })) as { groups?: Told[] };
  return Object.fromEntries(
    groups.map((group) => {
      const state = group.state.replace('TRACE_STATE_', '').toLowerCase();
      const told = fields
        .filter((field) => ![undefined, '', 0].includes(group[field] as string))
        .map((field) => `${field}: ${String(group[field])}`);
      return [group.groupId, [state, ...told].join(', ')];
    }),
  );
}

async function topic(name: string, groups = ''): Promise<(offset: number) => string> {
  const config: Record<string, string> = groups === '' ? {} : { groups };
  const created = await admin.admin.createTopic({ name, partitionCount: 1, config });
  const topicId = topicIdFromBytes(created.topic?.topicId as Uint8Array);
  return (offset) => encodeRequestId(topicId, 0, offset);
}

async function publish(
  name: string,
  records: readonly { key?: string; value: string; headers?: Record<string, string> }[],
) {
  await admin.publisher.publish({
    topic: name,
    records: records.map(({ key, value, headers = {} }) => ({
      ...(key === undefined ? {} : { key: TEXT.encode(key) }),
      value: TEXT.encode(value),
      headers: Object.entries(headers).map(([header, text]) => ({ key: header, value: TEXT.encode(text) })),
    })),
  });
}

interface Member {
  readonly stream: RawSubscriber;
  readonly ref: PartitionRef;
}

/** Joins, and reads what there is. */
async function consumer(groupId: string, memberId: string, name = 'orders', reads = true): Promise<Member> {
  const value = { groupId, memberId, topics: [name], start: BEGINNING };
  const stream = newClient().subscribe({ case: 'join', value });
  await stream.take('joined');
  const [assigned] = await stream.assigned(1);
  if (reads) {
    stream.poll(60_000);
    await stream.take('records');
  }
  return { stream, ref: assigned?.partition as PartitionRef };
}

interface Outcome {
  readonly offset: number;
  readonly kind: OutcomeKind;
  readonly note?: string;
  readonly reason?: string;
  readonly idempotencyId?: string;
}

async function commit({ stream, ref }: Member, offset: number, outcomes: readonly Outcome[] = []): Promise<void> {
  const wire = outcomes.map(({ offset: at, ...rest }) => ({
    attempts: 1,
    durationMs: 7n,
    ...rest,
    offset: BigInt(at),
  }));
  const partitions = [{ partition: ref, offset: BigInt(offset), outcomes: wire }];
  stream.send({ case: 'commit', value: { commitId: 1, partitions } });
  expect((await stream.take('committed')).errors).toEqual([]);
}

describe('a trace', () => {
  it('follows an event through groups in stages: who waits for what, who has it, who processed it and when', async () => {
    await start();
    const id = await topic('orders', 'payment,shipping:order=2');
    await publish('orders', [
      { key: 'k', value: 'one', headers: { ce_type: 'order.placed', ce_id: 'x1' } },
      { value: 'two' },
    ]);
    const fields = ['waitingFor', 'memberId', 'atMs', 'note', 'durationMs'];
    expect(await trace(id(0), ...fields)).toEqual({
      payment: 'waiting, waitingFor: a member: nobody in the group has the partition',
      shipping: 'waiting, waitingFor: group payment',
    });
    const a = await consumer('payment', 'a', 'orders', false);
    expect(await trace(id(1), ...fields)).toMatchObject({
      payment: 'waiting, waitingFor: member a, which has 1 offsets before it',
    });
    a.stream.poll(60_000);
    await a.stream.take('records');
    expect(await trace(id(0), ...fields)).toMatchObject({ payment: 'delivered, memberId: a' });
    clock.advance(1_000);
    const atMs = clock.nowMs();
    await commit(a, 2, [{ offset: 0, kind: OutcomeKind.PROCESSED, note: 'charged' }]);
    expect(await trace(id(0), ...fields)).toEqual({
      payment: `processed, memberId: a, atMs: ${atMs}, note: charged, durationMs: 7`,
      shipping: 'waiting, waitingFor: a member: nobody in the group has the partition',
    });
    expect(await trace(id(1), ...fields)).toMatchObject({ payment: `processed, memberId: a, atMs: ${atMs}` });
    expect(
      await call('Trace', { place: { topic: 'orders', partition: 0, offset: '0' }, groups: ['payment'] }),
    ).toMatchObject({
      requestId: id(0),
      topic: 'orders',
      sizeBytes: '4',
      eventType: 'order.placed',
      eventId: 'x1',
      keyText: 'k',
      groups: [{ groupId: 'payment', history: [{ what: 'processed', memberId: 'a', detail: 'charged' }] }],
    });
  });

  it('tells of dead letters, of what they park, of what fails and of what was skipped', async () => {
    await start();
    const id = await topic('orders', 'payment:after-dead-letter=park');
    await publish(
      'orders',
      ['k', 'k', 'other', 'other', 'last'].map((key) => ({ key, value: key })),
    );
    const a = await consumer('payment', 'a');
    await commit(a, 1, [
      { offset: 0, kind: OutcomeKind.DEAD_LETTERED, reason: 'non-retriable' },
      { offset: 2, kind: OutcomeKind.FAILED, reason: 'timeout' },
    ]);
    const fields = ['deadLetterId', 'behind', 'reason'];
    expect(await trace(id(0), ...fields)).toEqual({
      payment: `dead_lettered, deadLetterId: ${id(0)}, reason: non-retriable`,
    });
    expect(await trace(id(1), ...fields)).toEqual({ payment: `parked, behind: ${id(0)}` });
    expect(await trace(id(2), ...fields)).toEqual({ payment: 'failed, reason: timeout' });
    await commit(a, 5, [
      { offset: 1, kind: OutcomeKind.HELD },
      { offset: 2, kind: OutcomeKind.HELD, reason: 'timeout' },
      { offset: 3, kind: OutcomeKind.HELD },
      { offset: 4, kind: OutcomeKind.SKIPPED },
    ]);
    expect(await trace(id(1), ...fields)).toEqual({ payment: `parked, behind: ${id(0)}` });
    expect(await trace(id(2), ...fields)).toEqual({ payment: 'failed, reason: timeout' });
    expect(await trace(id(3), ...fields)).toEqual({ payment: `parked, behind: ${id(2)}` });
    expect(await trace(id(4), ...fields)).toEqual({ payment: 'skipped' });
  });

  it('of a parallel topic says who has a record, how often it was given, and what came of it', async () => {
    await start();
    const created = await admin.admin.createTopic({ name: 'jobs', partitionCount: 1, type: TopicType.PARALLEL });
    const topicId = topicIdFromBytes(created.topic?.topicId as Uint8Array);
    const id = (offset: number): string => encodeRequestId(topicId, 0, offset);
    await publish('jobs', [{ value: 'one' }, { value: 'two' }, { value: 'three' }]);
    const { stream, ref } = await consumer('workers', 'w', 'jobs');
    const fields = ['memberId', 'attempts', 'note', 'reason', 'deadLetterId'];
    expect(await trace(id(0), ...fields)).toEqual({ workers: 'delivered, memberId: w, attempts: 1' });
    const settled = [
      { kind: SettlementKind.ACCEPT, note: 'sent', from: 0n },
      { kind: SettlementKind.FAIL, reason: 'timeout', delayMs: 60_000n, from: 1n },
      { kind: SettlementKind.REJECT, reason: 'unknown', from: 2n },
    ];
    const records = settled.map(({ from, ...rest }) => ({ offsets: { from, to: from + 1n }, ...rest }));
    stream.send({ case: 'settle', value: { settleId: 1, partitions: [{ partition: ref, records }] } });
    expect((await stream.take('settled')).refused).toEqual([]);
    expect(await trace(id(0), ...fields)).toEqual({ workers: 'processed, memberId: w, attempts: 1, note: sent' });
    expect(await trace(id(1), ...fields)).toEqual({ workers: 'failed, memberId: w, attempts: 1, reason: timeout' });
    expect(await trace(id(2), ...fields)).toMatchObject({
      workers: `dead_lettered, memberId: w, attempts: 1, reason: unknown, deadLetterId: ${id(2)}`,
    });
  });

  it('outlives a restart, and once the ledger is gone still says that it was processed, but not when', async () => {
    directory = await mkdtemp(joinPath(tmpdir(), 'naru-trace-'));
    const config = { storage: 'file', data: directory } as const;
    await start(config);
    const id = await topic('orders');
    await publish('orders', [{ value: 'one' }]);
    await commit(await consumer('payment', 'a'), 1);
    const atMs = clock.nowMs();
    await stop();
    // The setting of the newest start counts.
    const ledger = { keepMs: '1m' };
    await start({ ...config, logging: { ledger }, retention: { checkIntervalMs: 1_000 } });
    expect(await trace(id(0), 'atMs', 'memberId')).toEqual({ payment: `processed, atMs: ${atMs}, memberId: a` });
    let told: Record<string, unknown> = {};
    for (let round = 0; round < 100 && told['payment'] !== 'processed'; round++) {
      clock.advance(10_000);
      await turns(20);
      told = await trace(id(0), 'atMs', 'memberId');
    }
    expect(told).toEqual({ payment: 'processed' });
  });

  it('without a ledger says what is so now', async () => {
    await start({ logging: { ledger: { use: false } } });
    const id = await topic('orders');
    await publish('orders', [{ value: 'one' }]);
    await commit(await consumer('payment', 'a'), 1);
    expect(await trace(id(0), 'atMs', 'memberId')).toEqual({ payment: 'processed' });
  });

  it('finds an event by its own id around the time that the id names, and says what it did not look at', async () => {
    await start();
    clock.advance(1_700_000_000_000 - clock.nowMs());
    const id = await topic('orders');
    const uuid = '018bcfe5-6800-7abc-8def-0123456789ab';
    await publish('orders', [{ value: 'zero' }, { value: 'one', headers: { ce_id: uuid } }]);
    expect(await call('Trace', { cloudEvent: { id: uuid } })).toMatchObject({ requestId: id(1), eventId: uuid });
    expect(await call('Trace', { cloudEvent: { id: '018bcfe5-6800-7abc-8def-000000000000' } })).toMatchObject({
      code: 'not_found',
    });
    expect(await call('Trace', { cloudEvent: { id: 'order-17' } })).toMatchObject({ code: 'invalid_argument' });
  });

  it('of what was never stored is refused, and of what is stored no more says so', async () => {
    await start();
    const id = await topic('orders');
    await publish('orders', [{ value: 'zero' }, { value: 'one' }]);
    expect(await call('Trace', { requestId: id(2) })).toMatchObject({ code: 'not_found' });
    await admin.admin.deleteRecords({ topic: 'orders', partitions: [{ partition: 0, beforeOffset: 1n }] });
    expect(await call('Trace', { requestId: id(0) })).toMatchObject({ gone: true, offset: '0' });
  });
});

describe('a wait', () => {
  it('ends when every declared group has processed the event', async () => {
    await start();
    const id = await topic('orders', 'payment,search');
    await publish('orders', [{ value: 'one' }]);
    const waiting = watched(call('Wait', { requestId: id(0), maxWaitMs: 60_000 }));
    const [a, b] = [await consumer('payment', 'a'), await consumer('search', 'b')];
    await commit(a, 1);
    await turns(50);
    expect(waiting.value).toBeUndefined();
    await commit(b, 1);
    while (waiting.value === undefined) await turns(1);
    expect(waiting.value).toMatchObject({ processed: true });
    expect(await call('Wait', { requestId: id(0), groups: ['payment'] })).toMatchObject({ processed: true });
  });

  it('ends early when a group has the event as a dead letter, and after its time with what is so then', async () => {
    await start();
    const id = await topic('orders');
    await publish('orders', [{ value: 'one' }, { value: 'two' }]);
    const a = await consumer('payment', 'a');
    const dead = watched(call('Wait', { requestId: id(0), groups: ['payment', 'other'], maxWaitMs: 60_000 }));
    const late = watched(call('Wait', { requestId: id(1), groups: ['payment'], maxWaitMs: 30_000 }));
    await turns(100);
    await commit(a, 1, [{ offset: 0, kind: OutcomeKind.DEAD_LETTERED }]);
    while (dead.value === undefined) await turns(1);
    expect(dead.value).toMatchObject({ error: { code: 'DEAD_LETTERED' } });
    expect(late.value).toBeUndefined();
    clock.advance(30_000);
    while (late.value === undefined) await turns(1);
    expect(late.value).toMatchObject({
      processed: false,
      groups: [{ groupId: 'payment', state: 'TRACE_STATE_DELIVERED' }],
    });
  });

  it('for nobody, and for what was never stored, is refused', async () => {
    await start();
    const id = await topic('orders');
    await publish('orders', [{ value: 'one' }]);
    expect(await call('Wait', { requestId: id(0) })).toMatchObject({ code: 'invalid_argument' });
    expect(await call('Wait', { requestId: id(1), groups: ['payment'] })).toMatchObject({ code: 'not_found' });
  });
});

describe('claims of a stream', () => {
  it('let one member handle an event, and say that it is done from the commit on, also after a restart', async () => {
    directory = await mkdtemp(joinPath(tmpdir(), 'naru-trace-'));
    await start({ storage: 'file', data: directory });
    await topic('orders');
    await topic('other');
    await topic('third');
    await publish('orders', [{ value: 'one' }]);
    const a = await consumer('payment', 'a');
    const b = await consumer('payment', 'b', 'other', false);
    const claim = async ({ stream }: Member, ...ids: string[]): Promise<ClaimState[]> => {
      stream.send({ case: 'claim', value: { claimId: 7, ids, leaseMs: 60_000n } });
      const { claimId, results, error } = await stream.take('claimed');
      expect([claimId, error]).toEqual([7, undefined]);
      return results.map(({ state }) => state);
    };
    expect(await claim(a, 'event-1', 'event-2')).toEqual([ClaimState.CLAIMED, ClaimState.CLAIMED]);
    expect(await claim(b, 'event-1', 'event-3')).toEqual([ClaimState.BUSY, ClaimState.CLAIMED]);
    await commit(a, 1, [{ offset: 0, kind: OutcomeKind.PROCESSED, idempotencyId: 'event-1' }]);
    expect(await claim(b, 'event-1', 'event-2')).toEqual([ClaimState.DONE, ClaimState.BUSY]);
    await stop();
    await start({ storage: 'file', data: directory });
    const c = await consumer('payment', 'c', 'third', false);
    expect(await claim(c, 'event-1', 'event-2', 'event-4')).toEqual([
      ClaimState.DONE,
      ClaimState.BUSY,
      ClaimState.CLAIMED,
    ]);
    c.stream.send({ case: 'claim', value: { claimId: 8, ids: ['x'.repeat(257)] } });
    expect((await c.stream.take('claimed')).error?.code).toBe('INVALID_REQUEST');
  });
});
