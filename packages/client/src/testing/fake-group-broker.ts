/** A broker for the subscriber's tests that says what the test tells it to, and keeps what it was told. */
import { create } from '@bufbuild/protobuf';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { topicIdToBytes } from '@naru/base';
import type { TopicId } from '@naru/base';
import { NaruError, keyId } from '@naru/protocol';
import type { ErrorCode } from '@naru/protocol';
import { encodeBatch } from '@naru/protocol/batch';
import { OutcomeKind, SettlementKind, SubscribeResponseSchema } from '@naru/protocol/proto';
import type { Commit, CommittedSchema, Join, SubscribeRequest, SubscribeResponse } from '@naru/protocol/proto';
import type { PublishStream, SubscribeStream, Transport } from '../transport/transport.ts';
import { FakeStream } from './fake-stream.ts';
import type { VirtualTime } from './virtual-time.ts';

export const TOPIC_ID = '00000000-0000-4000-8000-000000000001' as TopicId;

type Message = SubscribeRequest['message'];
type Case = Exclude<Message['case'], undefined>;
type Said = MessageInitShape<typeof SubscribeResponseSchema>['message'];
/** An answer to a commit, but for its id. */
export type CommittedFields = Omit<MessageInitShape<typeof CommittedSchema>, '$typeName' | 'commitId'>;
type FakeSubscribeStream = FakeStream<SubscribeRequest, SubscribeResponse>;

export interface FakeEvent {
  readonly key: string | null;
  readonly value: unknown;
  /** Its CloudEvents type. */
  readonly type?: string | undefined;
  readonly id?: string | undefined;
}

export class FakeGroupBroker implements Transport {
  readonly #time: VirtualTime;
  readonly streams: FakeSubscribeStream[] = [];
  readonly received: Message[] = [];
  /** Polls that were not answered. */
  polls: number[] = [];
  memberEpoch = 1;
  /** Answers joins and commits by itself. */
  refuseJoin: ErrorCode | null = null;
  answersCommits = true;
  answersSettlements = true;
  /** What becomes of a commit that is part of a transaction; `silent`: there is no answer. */
  commitTransaction: (commit: Commit) => CommittedFields | 'silent' = () => 'silent';

  constructor(time: VirtualTime) {
    this.#time = time;
  }

  openPublishStream(): PublishStream {
    throw new Error('this broker takes subscribers only');
  }

  call(): Promise<never> {
    return Promise.reject(new NaruError('UNSUPPORTED', 'not here'));
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  openSubscribeStream(): SubscribeStream {
    this.polls = [];
    const stream: FakeSubscribeStream = new FakeStream(this.#time, ({ message }) => this.#take(message));
    this.streams.push(stream);
    return stream;
  }

  get stream(): FakeSubscribeStream {
    const stream = this.streams.at(-1);
    if (stream === undefined) throw new Error('no stream was opened');
    return stream;
  }

  say(message: Said): void {
    this.stream.answer(create(SubscribeResponseSchema, { message: message as never }));
  }

  breakStream(code: ErrorCode = 'NETWORK'): void {
    this.stream.break(new NaruError(code, `broken: ${code}`));
  }

  /** @param blocked keys */
  assign(
    partition: number,
    position = 0,
    finished: { from: number; to: number }[] = [],
    blocked: readonly string[] = [],
  ): void {
    const assigned = {
      topic: 'orders',
      partition: ref(partition),
      position: BigInt(position),
      finished: finished.map(({ from, to }) => ({ from: BigInt(from), to: BigInt(to) })),
      blockedKeys: blocked.map(idOf),
    };
    this.say({ case: 'assigned', value: { memberEpoch: this.memberEpoch, partitions: [assigned] } });
  }

  revoke(partition: number, lost = false): void {
    this.say({ case: 'revoked', value: { memberEpoch: this.memberEpoch, partitions: [ref(partition)], lost } });
  }

  /** Answers the oldest poll with one batch. */
  records(partition: number, baseOffset: number, events: readonly FakeEvent[]): void {
    const pollId = this.polls.shift();
    if (pollId === undefined) throw new Error('no poll to answer');
    const batches = batchOf(baseOffset, events);
    const highWatermark = BigInt(baseOffset + events.length);
    this.say({
      case: 'records',
      value: { pollId, partitions: [{ partition: ref(partition), batches, highWatermark }] },
    });
  }

  /** Gives an event that the broker kept. */
  giveHeld(partition: number, offset: number, event: FakeEvent, attempts: number): void {
    const events = [{ batch: batchOf(offset, [event]), attempts }];
    this.say({ case: 'held', value: { partition: ref(partition), events } });
  }

  unblock(partition: number, key: string): void {
    this.say({ case: 'blockedKeys', value: { partition: ref(partition), unblocked: [idOf(key)] } });
  }

  assignParallel(partition: number): void {
    const assigned = { topic: 'orders', partition: ref(partition), parallel: true };
    this.say({ case: 'assigned', value: { memberEpoch: this.memberEpoch, partitions: [assigned] } });
  }

  /** Answers the oldest poll with records of a parallel topic. */
  acquired(
    partition: number,
    baseOffset: number,
    events: readonly FakeEvent[],
    lockMs = 30_000,
    deliveryCount = 1,
  ): void {
    const pollId = this.polls.shift();
    if (pollId === undefined) throw new Error('no poll to answer');
    const ranges = [{ offsets: { from: BigInt(baseOffset), to: BigInt(baseOffset + events.length) }, deliveryCount }];
    const acquired = [
      { partition: ref(partition), batches: batchOf(baseOffset, events), ranges, lockMs: BigInt(lockMs) },
    ];
    this.say({ case: 'records', value: { pollId, acquired } });
  }

  /** Settlements as `partition: from-to KIND`. */
  get settlements(): string[] {
    return this.told('settle').flatMap(({ partitions }) =>
      partitions.flatMap(({ partition, records }) =>
        records.map(({ offsets, kind, reason, delayMs }) => {
          const more = [reason, delayMs > 0n ? `in ${delayMs}` : ''].filter((part) => part !== '').join(' ');
          return `${partition?.partition}: ${offsets?.from}-${offsets?.to} ${SettlementKind[kind]} ${more}`.trimEnd();
        }),
      ),
    );
  }

  /** Outcomes of all commits as `offset KIND #attempts reason note`. */
  get outcomes(): string[] {
    return this.told('commit').flatMap(({ partitions }) =>
      partitions.flatMap(({ outcomes }) =>
        outcomes.map(({ offset, kind, attempts, reason, note }) =>
          [offset, OutcomeKind[kind], `#${attempts}`, reason, note].filter((part) => part !== '').join(' '),
        ),
      ),
    );
  }

  /** Messages of one kind, in order. */
  told<C extends Case>(kind: C): Extract<Message, { case: C }>['value'][] {
    return this.received.filter((message) => message.case === kind).map((message) => message.value as never);
  }

  /** Commits as `partition: offset +from-to…`. */
  get commits(): string[] {
    return this.told('commit').map((commit) => describeCommit(commit));
  }

  get lastJoin(): Join {
    const join = this.told('join').at(-1);
    if (join === undefined) throw new Error('nobody joined');
    return join;
  }

  #take(message: Message): void {
    this.received.push(message);
    if (message.case === 'join') this.#joined(message.value);
    else if (message.case === 'poll') this.polls.push(message.value.pollId);
    else if (message.case === 'commit' && message.value.transaction !== undefined) {
      const answer = this.commitTransaction(message.value);
      const { commitId } = message.value;
      if (answer !== 'silent') this.say({ case: 'committed', value: { ...answer, commitId } });
    } else if (message.case === 'commit' && this.answersCommits) {
      this.say({ case: 'committed', value: { commitId: message.value.commitId } });
    } else if (message.case === 'settle' && this.answersSettlements) {
      this.say({ case: 'settled', value: { settleId: message.value.settleId } });
    } else if (message.case === 'leave') this.say({ case: 'left', value: {} });
  }

  #joined({ memberId }: Join): void {
    if (this.refuseJoin !== null) {
      this.breakStream(this.refuseJoin);
      return;
    }
    const { memberEpoch } = this;
    const value = { memberId, memberEpoch, heartbeatIntervalMs: 3_000, sessionTimeoutMs: 45_000 };
    this.say({ case: 'joined', value });
  }
}

function ref(partition: number): { topicId: Uint8Array; partition: number } {
  return { topicId: topicIdToBytes(TOPIC_ID), partition };
}

function idOf(key: string): string {
  return keyId(new TextEncoder().encode(key));
}

function batchOf(baseOffset: number, events: readonly FakeEvent[]): Uint8Array {
  const text = new TextEncoder();
  const records = events.map(({ key, value, type, id }, i) => ({
    key: key === null ? null : text.encode(key),
    value: value instanceof Uint8Array ? value : text.encode(JSON.stringify(value)),
    headers: [
      ...(type === undefined ? [] : [{ key: 'ce_type', value: text.encode(type) }]),
      ...(id === undefined ? [] : [{ key: 'ce_id', value: text.encode(id) }]),
    ],
    timestampMs: 1_000 + i,
  }));
  return encodeBatch(records, { baseOffset });
}

function describeCommit(commit: Commit): string {
  return commit.partitions
    .map(({ partition, offset, finished }) => {
      const ranges = finished.map(({ from, to }) => ` +${from}-${to}`).join('');
      return `${partition?.partition}: ${offset}${ranges}`;
    })
    .join(', ');
}
