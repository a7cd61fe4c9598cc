/** A broker for the subscriber's tests that says what the test tells it to, and keeps what it was told. */
import { create } from '@bufbuild/protobuf';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { topicIdToBytes } from '@naru/base';
import type { TopicId } from '@naru/base';
import { NaruError } from '@naru/protocol';
import type { ErrorCode } from '@naru/protocol';
import { encodeBatch } from '@naru/protocol/batch';
import { SubscribeResponseSchema } from '@naru/protocol/proto';
import type { Commit, Join, SubscribeRequest, SubscribeResponse } from '@naru/protocol/proto';
import type { PublishStream, SubscribeStream, Transport } from '../transport/transport.ts';
import { FakeStream } from './fake-stream.ts';
import type { VirtualTime } from './virtual-time.ts';

export const TOPIC_ID = '00000000-0000-4000-8000-000000000001' as TopicId;

type Message = SubscribeRequest['message'];
type Case = Exclude<Message['case'], undefined>;
type Said = MessageInitShape<typeof SubscribeResponseSchema>['message'];
type FakeSubscribeStream = FakeStream<SubscribeRequest, SubscribeResponse>;

export interface FakeEvent {
  readonly key: string | null;
  readonly value: unknown;
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

  assign(partition: number, position = 0, finished: { from: number; to: number }[] = []): void {
    const assigned = {
      topic: 'orders',
      partition: ref(partition),
      position: BigInt(position),
      finished: finished.map(({ from, to }) => ({ from: BigInt(from), to: BigInt(to) })),
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
    const text = new TextEncoder();
    const batches = encodeBatch(
      events.map(({ key, value }, i) => ({
        key: key === null ? null : text.encode(key),
        value: text.encode(JSON.stringify(value)),
        timestampMs: 1_000 + i,
      })),
      { baseOffset },
    );
    const highWatermark = BigInt(baseOffset + events.length);
    this.say({
      case: 'records',
      value: { pollId, partitions: [{ partition: ref(partition), batches, highWatermark }] },
    });
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
    else if (message.case === 'commit' && this.answersCommits) {
      this.say({ case: 'committed', value: { commitId: message.value.commitId } });
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

function describeCommit(commit: Commit): string {
  return commit.partitions
    .map(({ partition, offset, finished }) => {
      const ranges = finished.map(({ from, to }) => ` +${from}-${to}`).join('');
      return `${partition?.partition}: ${offset}${ranges}`;
    })
    .join(', ');
}
