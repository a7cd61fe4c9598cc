/** SubscriberService's single calls: wire messages to unary-session.ts, and what that answers. */
import { create } from '@bufbuild/protobuf';
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import { partitionKey, splitPartitionKey, type Logger, type PartitionKey } from '@naru/base';
import { NaruError, type Refusal } from '@naru/protocol';
import {
  AckResponseSchema,
  CommitResponseSchema,
  JoinResponseSchema,
  LeaveResponseSchema,
  PollResponseSchema,
  type AckRequest,
  type CommitRequest,
  type JoinRequest,
  type OffsetCommit,
  type PollRequest,
  type PollResponse,
  type SubscriberService,
} from '@naru/protocol/proto';
import type { MetadataFollower } from '../../runtime/metadata-follower.ts';
import type { AssignedPartition, PartitionCommit } from '../../service/session-events.ts';
import type { CommitAnswer, PollAnswer } from '../../service/unary-calls.ts';
import type { UnarySessions } from '../../service/unary-sessions.ts';
import { RecordFormatter } from './plain-records.ts';
import { isUncommitted, toOffsetPosition, wireInteger } from './positions.ts';
import { toAckSettlements } from './settlements.ts';
import { toTransactionRef, toWireTransactionRef } from './transaction-refs.ts';
import { logged, toConnectError, toErrorMessage } from './wire-errors.ts';

export interface UnaryDoorOptions {
  readonly sessions: UnarySessions;
  readonly follower: MetadataFollower;
  readonly logger: Logger;
  /** The address of a call's client. */
  readonly peerOf: (context: HandlerContext) => string;
}

export type UnaryCalls = Pick<ServiceImpl<typeof SubscriberService>, 'join' | 'poll' | 'commit' | 'ack' | 'leave'>;

export function unaryDoor({ sessions, follower, logger, peerOf }: UnaryDoorOptions): UnaryCalls {
  const answer = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw logged(toConnectError(error), logger);
    }
  };
  /** Topics by their names now, or when they were assigned: a topic may be gone. */
  const names = new TopicNames(follower);
  return {
    join: (request, context) => answer(() => join(request, peerOf(context), sessions)),
    poll: (request, context) => answer(() => poll(request, context.signal, sessions)),
    commit: (request) => answer(() => commit(request, sessions, names)),
    ack: (request) => answer(() => ack(request, sessions)),
    leave: ({ sessionId }) =>
      answer(async () => {
        await sessions.find(sessionId).leave();
        return create(LeaveResponseSchema);
      }),
  };
}

class TopicNames {
  readonly #follower: MetadataFollower;

  constructor(follower: MetadataFollower) {
    this.#follower = follower;
  }

  /** @throws NaruError UNKNOWN_TOPIC_OR_PARTITION */
  keyOf(name: string, partition: number): PartitionKey {
    const topic = this.#follower.registry.byName(name);
    if (topic === undefined || partition < 0 || partition >= topic.partitionCount) {
      throw new NaruError(
        'UNKNOWN_TOPIC_OR_PARTITION',
        `there is no partition ${partition} of topic ${JSON.stringify(name)}`,
      );
    }
    return partitionKey(topic.id, partition);
  }

  placeOf(key: PartitionKey): { topic: string; partition: number } {
    const { topicId, partition } = splitPartitionKey(key);
    return { topic: this.#follower.registry.byId(topicId)?.name ?? '', partition };
  }
}

async function join(request: JoinRequest, clientHost: string, sessions: UnarySessions) {
  const { instanceId, start, isolation, $typeName: _typeName, $unknown: _unknown, ...rest } = request;
  const { id, session } = await sessions.join({
    ...rest,
    memberEpoch: 0,
    instanceId: instanceId ?? null,
    clientHost,
    start: toOffsetPosition(start),
    uncommitted: isUncommitted(isolation),
    owned: [],
  });
  const { memberId, memberEpoch, sessionTimeoutMs } = session;
  const assigned = session.takeAssigned().map(toAssignment);
  return create(JoinResponseSchema, { sessionId: id, memberId, memberEpoch, sessionTimeoutMs, assigned });
}

async function poll(request: PollRequest, signal: AbortSignal, sessions: UnarySessions): Promise<PollResponse> {
  const { sessionId, maxWaitMs, maxRecords, maxBytes, format, received } = request;
  const session = sessions.find(sessionId);
  const formatter = new RecordFormatter(format);
  const answer = await session.poll({ maxWaitMs, maxRecords, maxBytes, received: received ?? null, signal });
  return toPollResponse(answer, formatter);
}

function toPollResponse({ pollId, memberEpoch, records, news }: PollAnswer, formatter: RecordFormatter): PollResponse {
  return create(PollResponseSchema, {
    pollId,
    memberEpoch,
    records: records.map((record) => formatter.format(record)),
    revoked: [...news.revoked].map(([key, { topic, lost }]) => ({ topic, partition: numberOf(key), lost })),
    assigned: [...news.assigned.values()].map(toAssignment),
    positionResets: [...news.resets].map(([key, { topic, from, to }]) => ({
      topic,
      partition: numberOf(key),
      from: BigInt(from),
      to: BigInt(to),
    })),
    failed: [...news.failed].map(([key, { topic, refusal }]) =>
      toFailure({ topic, partition: numberOf(key) }, refusal),
    ),
  });
}

async function commit(request: CommitRequest, sessions: UnarySessions, names: TopicNames) {
  const { sessionId, pollId, offsets } = request;
  const transaction = toTransactionRef(request.transaction);
  const session = sessions.find(sessionId);
  if ((pollId === undefined) === (offsets.length === 0)) {
    throw new NaruError('INVALID_REQUEST', 'a commit has a poll_id or offsets, and not both');
  }
  const commits = offsets.map((offset) => toPartitionCommit(offset, names));
  const answer = await (pollId === undefined
    ? session.commit(commits, transaction)
    : session.commitGiven(pollId, transaction));
  return toCommitResponse(answer, names);
}

function toPartitionCommit(
  { topic, partition, offset, finished, metadata }: OffsetCommit,
  names: TopicNames,
): PartitionCommit {
  const ranges = finished.map(
    ({ from, to }) => [wireInteger(from, 'an offset'), wireInteger(to, 'an offset')] as const,
  );
  return {
    partition: names.keyOf(topic, partition),
    offset: wireInteger(offset, 'an offset'),
    finished: ranges.length === 0 ? null : ranges,
    metadata,
  };
}

function toCommitResponse({ committed, failed, next }: CommitAnswer, names: TopicNames) {
  return create(CommitResponseSchema, {
    ...(next === null ? {} : { nextTransaction: toWireTransactionRef(next) }),
    committed: committed.map(({ partition, offset }) => ({ ...names.placeOf(partition), offset: BigInt(offset) })),
    failed: failed.map(({ partition, refusal }) => toFailure(names.placeOf(partition), refusal)),
  });
}

async function ack({ sessionId, requestIds, settlements }: AckRequest, sessions: UnarySessions) {
  const session = sessions.find(sessionId);
  const asked = toAckSettlements(requestIds, settlements);
  const refused = await session.settle(asked.partitions);
  return create(AckResponseSchema, {
    refused: refused.flatMap(({ partition, from, to, refusal }) =>
      Array.from({ length: to - from }, (_, index) => ({
        requestId: asked.requestIdOf(partition, from + index),
        error: toErrorMessage(refusal),
      })),
    ),
  });
}

function toFailure(place: { topic: string; partition: number }, refusal: Refusal) {
  return { ...place, error: toErrorMessage(refusal) };
}

function toAssignment({ topic, partition, position, committedOffset, metadata, highWatermark }: AssignedPartition) {
  return {
    topic,
    partition: numberOf(partition),
    position: BigInt(position),
    ...(committedOffset === null ? {} : { committedOffset: BigInt(committedOffset) }),
    metadata,
    highWatermark: BigInt(highWatermark),
  };
}

function numberOf(key: PartitionKey): number {
  return splitPartitionKey(key).partition;
}
