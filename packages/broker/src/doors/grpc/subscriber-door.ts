/** SubscriberService's stream: wire messages to subscriber-session.ts, and what that says back. */
import { create, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import type { Logger } from '@naru/base';
import { splitPartitionKey, topicIdToBytes } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { encodeRecords } from '@naru/protocol/grpc-frames';
import {
  SubscribeRequestSchema,
  SubscribeResponseSchema,
  type Join,
  type PartitionCommit as WireCommit,
  type SubscribeRequest,
  type SubscribeResponse,
  type SubscriberService,
} from '@naru/protocol/proto';
import { ByteBudget } from '../../service/byte-budget.ts';
import type { JoinRequest, PartitionCommit, SessionEvent } from '../../service/session-events.ts';
import { SubscriberSession, type SubscriberSessionOptions } from '../../service/subscriber-session.ts';
import { toWireClaimed } from './claims.ts';
import { decoded, type StreamMethod } from './grpc-stream.ts';
import { toOutcome, toWireBlockedKeys, toWireHeld } from './held-events.ts';
import { Outbox } from './outbox.ts';
import { isUncommitted, toOffsetPosition, toPartitionKey, toPartitionRef, wireInteger } from './positions.ts';
import { toSettlements, toWireAcquired, toWireRefusals } from './settlements.ts';
import { toTransactionRef, toWireTransactionRef } from './transaction-refs.ts';
import { logged, toConnectError, toErrorMessage } from './wire-errors.ts';

/** Commits, seeks and releases of one stream that are being carried out. */
const MAX_CONCURRENT_REQUESTS = 1_000;

/** Answers that a subscriber has not read, beyond which its requests are not read either. */
const MAX_UNREAD_EVENTS = 1_000;

/** Records of all subscribers that were read and wait for their connections. */
const MAX_HELD_BYTES = 128 * 1024 * 1024;

export interface SubscriberDoorOptions extends Omit<SubscriberSessionOptions, 'emit' | 'room'> {
  readonly logger: Logger;
  /** The address of a call's client. */
  readonly peerOf: (context: HandlerContext) => string;
}

export class SubscriberDoor implements Pick<ServiceImpl<typeof SubscriberService>, 'subscribe'> {
  readonly #options: SubscriberDoorOptions;
  readonly #sessions = new Set<SubscriberSession>();
  /** Records that were read and not yet taken by the transport. */
  readonly #held = new ByteBudget(MAX_HELD_BYTES);

  constructor(options: SubscriberDoorOptions) {
    this.#options = options;
  }

  /** Bytes of records that were read and not yet taken by the transport, of all streams. */
  get heldBytes(): number {
    return this.#held.usedBytes;
  }

  get openStreams(): number {
    return this.#sessions.size;
  }

  /** Ends every stream, after what it still has to say. */
  close(): void {
    for (const session of this.#sessions) session.shutDown();
  }

  async *subscribe(
    requests: AsyncIterable<SubscribeRequest>,
    context: HandlerContext,
  ): AsyncIterable<SubscribeResponse> {
    try {
      for await (const event of this.#serve(requests, this.#options.peerOf(context), context.signal)) {
        yield create(SubscribeResponseSchema, { message: toWire(event) });
      }
    } catch (error) {
      throw logged(toConnectError(error), this.#options.logger);
    }
  }

  /** {@link subscribe} without the library, and without copying records: see grpc-stream.ts. */
  streamMethod(): StreamMethod {
    const serve = async function* (events: AsyncIterable<Said>): AsyncIterable<Uint8Array[]> {
      for await (const event of events) yield toPieces(event);
    };
    return {
      path: '/naru.v1.SubscriberService/Subscribe',
      serve: (requests, peer, signal) => serve(this.#serve(decoded(SubscribeRequestSchema, requests), peer, signal)),
    };
  }

  async *#serve(requests: AsyncIterable<SubscribeRequest>, peer: string, signal: AbortSignal): AsyncIterable<Said> {
    const outbox = new Outbox<SessionEvent>();
    let heldBytes = 0;
    /** With records of parallel topics, and not taken by the transport. */
    const undelivered = new Set<Extract<SessionEvent, { type: 'records' }>>();
    const iterator = requests[Symbol.asyncIterator]();
    let session: SubscriberSession | null = null;
    try {
      const first = await iterator.next();
      const message = first.done === true ? undefined : first.value.message;
      if (message?.case !== 'join')
        throw new NaruError('INVALID_REQUEST', 'the first message of a subscription must be `join`');
      const emit = (event: SessionEvent): void => {
        if (event.type === 'claimed' && event.forgotten > 0) {
          const { forgotten } = event;
          this.#options.logger.warn(
            { forgotten },
            'ids of handled events were forgotten before their time: idempotency.maxIds',
          );
        }
        if (event.type === 'ended') outbox.end(event.error);
        else outbox.push(event);
        if (event.type === 'records' && event.acquired !== undefined) undelivered.add(event);
        if (event.type === 'records' || event.type === 'late') {
          heldBytes += recordBytes(event);
          this.#held.take(recordBytes(event));
        }
      };
      // Records are read for a subscriber only once it took the last ones, so that a slow one costs little memory.
      const room = (): Promise<void> | null => (heldBytes > 0 ? outbox.emptied() : this.#held.room());
      const options = { ...this.#options, emit, room };
      const joined = new SubscriberSession(toJoinRequest(message.value, peer), options);
      session = joined;
      this.#sessions.add(joined);
      // A client that closes its side without leaving is gone: the stream ends, the membership goes on for a while.
      const finish = (error: unknown): void => {
        outbox.end(error);
        joined.disconnected();
      };
      joined
        .open()
        .then(() => serve(iterator, joined, outbox, finish))
        .then(() => finish(null), finish);
      for await (const event of outbox) {
        if (event.type === 'ended') continue;
        yield event;
        if (event.type !== 'records' && event.type !== 'late') continue;
        if (event.type === 'records') undelivered.delete(event);
        heldBytes -= recordBytes(event);
        this.#held.release(recordBytes(event));
      }
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    } finally {
      outbox.end();
      this.#held.release(heldBytes);
      if (session !== null) {
        session.disconnected();
        session.undelivered([...undelivered].flatMap(({ acquired = [] }) => acquired));
        this.#sessions.delete(session);
      }
    }
  }
}

/** Carries out requests until the client closes its side, and ends with the last one. They begin in their order. */
async function serve(
  iterator: AsyncIterator<SubscribeRequest>,
  session: SubscriberSession,
  outbox: Outbox<SessionEvent>,
  fail: (error: unknown) => void,
): Promise<void> {
  const running = new Set<Promise<void>>();
  const start = (work: Promise<void>): void => {
    const done = work.catch(fail).finally(() => running.delete(done));
    running.add(done);
  };
  for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
    if (outbox.length >= MAX_UNREAD_EVENTS) await outbox.emptied();
    if (running.size >= MAX_CONCURRENT_REQUESTS) {
      throw new NaruError(
        'INVALID_REQUEST',
        `${MAX_CONCURRENT_REQUESTS} requests are unanswered, which is the limit: wait for answers`,
      );
    }
    const { message } = next.value;
    switch (message.case) {
      case 'poll':
        session.poll(message.value.pollId, message.value.maxBytes, message.value.maxWaitMs);
        break;
      case 'commit':
        start(
          session.commit(
            message.value.commitId,
            message.value.partitions.map(toPartitionCommit),
            toTransactionRef(message.value.transaction),
          ),
        );
        break;
      case 'settle':
        start(session.settle(message.value.settleId, toSettlements(message.value)));
        break;
      case 'claim':
        start(session.claim(message.value.claimId, message.value.ids, wireInteger(message.value.leaseMs, 'a lease')));
        break;
      case 'seek': {
        const position = toOffsetPosition(message.value.position);
        if (position === null) throw new NaruError('INVALID_REQUEST', 'a seek needs a position');
        start(session.seek(toPartitionKey(message.value.partition), position));
        break;
      }
      case 'pause':
        session.pause(message.value.partitions.map(toPartitionKey));
        break;
      case 'released':
        start(session.released(message.value.partitions.map(toPartitionKey)));
        break;
      case 'heartbeat':
        session.heartbeat();
        break;
      case 'leave':
        await session.leave();
        return;
      case 'join':
        throw new NaruError('INVALID_REQUEST', 'a subscription joins once');
      default:
        throw new NaruError('INVALID_REQUEST', 'a message of a subscription is empty or unknown to this broker');
    }
  }
  await Promise.all(running);
}

function toPartitionCommit({ partition, offset, finished, metadata, outcomes }: WireCommit): PartitionCommit {
  return {
    partition: toPartitionKey(partition),
    offset: wireInteger(offset, 'an offset'),
    finished: finished.map(({ from, to }) => [wireInteger(from, 'an offset'), wireInteger(to, 'an offset')] as const),
    metadata,
    ...(outcomes.length === 0 ? {} : { outcomes: outcomes.map(toOutcome) }),
  };
}

function toJoinRequest(join: Join, clientHost: string): JoinRequest {
  return {
    groupId: join.groupId,
    memberId: join.memberId,
    memberEpoch: join.memberEpoch,
    instanceId: join.instanceId ?? null,
    topics: join.topics,
    clientId: join.clientId,
    clientHost,
    sessionTimeoutMs: join.sessionTimeoutMs,
    maxPollIntervalMs: join.maxPollIntervalMs,
    start: toOffsetPosition(join.start),
    uncommitted: isUncommitted(join.isolation),
    owned: join.owned.map(({ partition, nextOffset }) => ({
      partition: toPartitionKey(partition),
      nextOffset: wireInteger(nextOffset, 'an offset'),
    })),
  };
}

function recordBytes(event: Extract<SessionEvent, { type: 'records' | 'late' }>): number {
  let bytes = 0;
  if (event.type === 'late') {
    for (const batch of event.batches) bytes += batch.length;
    return bytes;
  }
  for (const { batches } of event.partitions) for (const batch of batches) bytes += batch.length;
  for (const { batches } of event.acquired ?? []) for (const batch of batches) bytes += batch.length;
  return bytes;
}

type WireMessage = NonNullable<MessageInitShape<typeof SubscribeResponseSchema>['message']>;

/** What a stream says; how it ends is the stream's own end. */
type Said = Exclude<SessionEvent, { type: 'ended' }>;

function toPieces(event: Said): Uint8Array[] {
  if (event.type !== 'records')
    return [toBinary(SubscribeResponseSchema, create(SubscribeResponseSchema, { message: toWire(event) }))];
  const parts = event.partitions.map(({ partition, batches, highWatermark, withheld }) => {
    const { topicId, partition: number } = splitPartitionKey(partition);
    return { topicId: topicIdToBytes(topicId), partition: number, batches, highWatermark, withheld };
  });
  const acquired = event.acquired?.map(({ partition, ...rest }) => {
    const { topicId, partition: number } = splitPartitionKey(partition);
    return { topicId: topicIdToBytes(topicId), partition: number, ...rest };
  });
  return encodeRecords(event.pollId, parts, acquired);
}

function toWire(event: Said): WireMessage {
  switch (event.type) {
    case 'joined': {
      const { type: _type, ...value } = event;
      return { case: 'joined', value };
    }
    case 'assigned': {
      const partitions = event.partitions.map(({ committedOffset, finished, ...rest }) => ({
        topic: rest.topic,
        partition: toPartitionRef(rest.partition),
        position: BigInt(rest.position),
        ...(committedOffset === null ? {} : { committedOffset: BigInt(committedOffset) }),
        finished: finished.map(([from, to]) => ({ from: BigInt(from), to: BigInt(to) })),
        metadata: rest.metadata,
        highWatermark: BigInt(rest.highWatermark),
        blockedKeys: [...(rest.blockedKeys ?? [])],
        parallel: rest.parallel === true,
      }));
      return { case: 'assigned', value: { memberEpoch: event.memberEpoch, partitions } };
    }
    case 'revoked': {
      const { memberEpoch, lost } = event;
      return { case: 'revoked', value: { memberEpoch, lost, partitions: event.partitions.map(toPartitionRef) } };
    }
    case 'records': {
      const partitions = event.partitions.map(({ partition, batches, highWatermark, withheld = [] }) => ({
        partition: toPartitionRef(partition),
        batches: batches.length === 1 ? (batches[0] as Uint8Array) : Buffer.concat(batches),
        highWatermark: BigInt(highWatermark),
        withheld: withheld.map(BigInt),
      }));
      return {
        case: 'records',
        value: { pollId: event.pollId, partitions, acquired: event.acquired?.map(toWireAcquired) ?? [] },
      };
    }
    case 'late': {
      const { partition, batches, gone } = event;
      const value = { partition: toPartitionRef(partition), batches: Buffer.concat(batches), gone: gone.map(BigInt) };
      return { case: 'late', value };
    }
    case 'committed':
      return { case: 'committed', value: toWireCommitted(event) };
    case 'held':
      return { case: 'held', value: toWireHeld(event) };
    case 'blocked-keys':
      return { case: 'blockedKeys', value: toWireBlockedKeys(event) };
    case 'settled':
      return { case: 'settled', value: { settleId: event.settleId, refused: toWireRefusals(event.refused) } };
    case 'claimed':
      return { case: 'claimed', value: toWireClaimed(event) };
    case 'position-reset':
      return {
        case: 'positionReset',
        value: { partition: toPartitionRef(event.partition), from: BigInt(event.from), to: BigInt(event.to) },
      };
    case 'partition-failed':
      return {
        case: 'partitionFailed',
        value: { partition: toPartitionRef(event.partition), error: toErrorMessage(event.refusal) },
      };
    case 'left':
      return { case: 'left', value: {} };
  }
}

function toWireCommitted({ commitId, errors, transaction }: Extract<Said, { type: 'committed' }>) {
  const { next = null, refusal = null } = transaction ?? {};
  return {
    commitId,
    errors: errors.map((error) => ({
      partition: toPartitionRef(error.partition),
      error: toErrorMessage(error.refusal),
    })),
    ...(next === null ? {} : { nextTransaction: toWireTransactionRef(next) }),
    ...(refusal === null ? {} : { transactionError: toErrorMessage(refusal) }),
  };
}
