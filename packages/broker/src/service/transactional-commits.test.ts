/** Commits that are part of a transaction: what the shard is asked, and what a member is told. */
import { partitionKey, topicIdFromBytes, type PartitionKey } from '@naru/base';
import { refuse } from '@naru/protocol';
import { encodeBatch, setBatchOffsets } from '@naru/protocol/batch';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import { beforeEach, expect, it } from 'vitest';
import type { EventOutcome } from '../core/group/index.ts';
import type { Command, ShardClient } from '../runtime/commands.ts';
import type { EndTransactionShardCommand } from '../runtime/transaction-commands.ts';
import { turns } from '../runtime/settling.ts';
import { ByteBudget } from './byte-budget.ts';
import { MAX_COPYING_BYTES, MAX_TRANSACTION_COPY_BYTES, MemberCommits } from './commit-outcomes.ts';
import { countedProducerIds } from './counted-producer-ids.ts';
import type { PartitionCommit } from './session-events.ts';

const TOPIC_ID = topicIdFromBytes(new Uint8Array(16).fill(1));
const [FIRST, SECOND] = [partitionKey(TOPIC_ID, 0), partitionKey(TOPIC_ID, 1)];
const REF = { transactionalId: 'shop', producerId: 7, producerEpoch: 3 };
const NEXT = { producerId: 7, producerEpoch: 4 };

let copying: ByteBudget;
/** Of what is not read. */
let asked: Command[];
/** To what is not read. */
let answer: (command: Command) => unknown;
let eventBytes: number;
let told: [PartitionKey, readonly string[]][];
let commits: MemberCommits;

beforeEach(() => {
  copying = new ByteBudget(MAX_COPYING_BYTES);
  asked = [];
  eventBytes = 10;
  told = [];
  const submit = (command: Command): Promise<unknown> => {
    if (command.type === 'fetch') return Promise.resolve({ partitions: command.partitions.map(stored) });
    asked.push(command);
    return Promise.resolve(answer(command));
  };
  commits = new MemberCommits({
    shard: { submit } as unknown as ShardClient,
    codecs: nodeCompressionCodecs,
    copying,
    producerIds: countedProducerIds(),
    groupId: 'payment',
    memberId: 'a',
    isGiven: () => false,
    onCommitted: ({ partition }, blocked) => told.push([partition, blocked]),
  });
});

/** One event at each offset. */
function stored({ partition, offset }: { partition: PartitionKey; offset: number }) {
  const batch = encodeBatch([{ key: new Uint8Array(1), value: new Uint8Array(eventBytes), timestampMs: 0 }]);
  setBatchOffsets(batch, offset, 0);
  const bounds = { highWatermark: 100, lastStableOffset: 100, logStartOffset: 0 };
  return { partition, batches: [batch], nextOffset: offset + 1, ...bounds, refusal: null };
}

function held(offset: number): EventOutcome {
  const texts = { note: '', reason: '', error: '', idempotencyId: '' };
  const times = { durationMs: 0, firstFailureMs: 0, lastFailureMs: 0, nextAttemptMs: 0 };
  return { offset, kind: 'held', attempts: 1, ...texts, ...times };
}

function commitOf(partition: PartitionKey, offsets: readonly number[] = []): PartitionCommit {
  return { partition, offset: 10, finished: [], metadata: '', outcomes: offsets.map(held) };
}

function results(blocked: readonly string[] = []) {
  return [FIRST, SECOND].map((partition) => ({ partition, refusal: null, blocked }));
}

it('puts all partitions, with the events to be kept, into one command, and tells of blocked keys', async () => {
  answer = () => ({ next: NEXT, results: results(['k']) });
  const answered = await commits.commitWith(2, [commitOf(FIRST, [3, 4]), commitOf(SECOND)], REF);
  expect(answered).toEqual({ errors: [], refusal: null, next: { transactionalId: 'shop', ...NEXT } });
  const [{ groupCommit, ...end }] = asked as [EndTransactionShardCommand];
  expect([asked.length, end]).toMatchObject([1, { type: 'end-transaction', transaction: REF, flow: 2, commit: true }]);
  expect(groupCommit).toMatchObject({ groupId: 'payment', memberId: 'a', memberEpoch: 2 });
  const copies = groupCommit?.offsets.map(({ outcomes = [] }) => outcomes.map(({ copy }) => copy?.batch.length));
  expect(copies).toEqual([[expect.any(Number), expect.any(Number)], []]);
  expect(told).toEqual([
    [FIRST, ['k']],
    [SECOND, ['k']],
  ]);
  expect(copying.usedBytes).toBe(0);
});

it('does not take the answer to a repeated commit for news: what it was about may have another attempt by now', async () => {
  answer = () => ({ next: NEXT, results: results(), isRepeated: true });
  const answered = await commits.commitWith(2, [commitOf(FIRST, [3]), commitOf(SECOND)], REF);
  const next = { transactionalId: 'shop', ...NEXT };
  expect(answered).toEqual({ errors: [], refusal: null, next, isRepeated: true });
  expect(told).toEqual([]);
});

it('tells of nothing as committed when one partition, or the transaction, is refused', async () => {
  const refusal = refuse('FENCED_MEMBER_EPOCH', 'not yours');
  answer = () => ({
    next: null,
    results: [
      { partition: FIRST, refusal: null },
      { partition: SECOND, refusal },
    ],
  });
  const both = [commitOf(FIRST), commitOf(SECOND)];
  expect(await commits.commitWith(2, both, REF)).toEqual({
    errors: [{ partition: SECOND, refusal }],
    refusal: null,
    next: null,
  });
  const fenced = refuse('PRODUCER_FENCED', 'another one');
  answer = () => fenced;
  expect(await commits.commitWith(2, both, REF)).toEqual({ errors: [], refusal: fenced, next: null });
  expect(told).toEqual([]);
});

it('refuses more copies than one append has room for, without asking to end anything', async () => {
  eventBytes = MAX_TRANSACTION_COPY_BYTES / 4;
  const three = await commits.commitWith(2, [commitOf(FIRST, [1, 2]), commitOf(SECOND, [1, 2])], REF);
  expect([three.refusal?.code, three.next, asked]).toEqual(['TRANSACTION_TOO_LARGE', null, []]);
  answer = () => ({ next: NEXT, results: results() });
  const less = await commits.commitWith(2, [commitOf(FIRST, [1, 2]), commitOf(SECOND, [1])], REF);
  expect([less.next?.producerEpoch, asked.length, copying.usedBytes]).toEqual([4, 1, 0]);
});

it('keeps the order of a member’s commits around one that is part of a transaction', async () => {
  answer = (command) =>
    command.type === 'end-transaction' ? { next: NEXT, results: results() } : { results: results() };
  const plain = [commitOf(FIRST), commitOf(SECOND)];
  await Promise.all([
    commits.commit(2, plain),
    commits.commitWith(2, [commitOf(FIRST, [1]), commitOf(SECOND)], REF),
    commits.commit(2, plain),
  ]);
  expect(asked.map(({ type }) => type)).toEqual(['group', 'end-transaction', 'group']);
});

it('ends nothing once its session is over', async () => {
  answer = () => ({ next: NEXT, results: results() });
  const ended = commits.commitWith(2, [commitOf(FIRST, [1]), commitOf(SECOND)], REF);
  commits.close();
  expect([(await ended).refusal?.code, asked]).toEqual(['ABORTED', []]);
  await turns();
  expect(copying.usedBytes).toBe(0);
});
