/** SubscriberService: wire messages to subscriber-session.ts, and what that says back. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import { NaruError } from '@naru/protocol';
import {
  SubscribeResponseSchema,
  type Join,
  type SubscribeRequest,
  type SubscribeResponse,
  type SubscriberService,
} from '@naru/protocol/proto';
import { ByteBudget } from '../../service/byte-budget.ts';
import {
  SubscriberSession,
  type JoinRequest,
  type SessionEvent,
  type SubscriberSessionOptions,
} from '../../service/subscriber-session.ts';
import { Outbox } from './outbox.ts';
import { toOffsetPosition, toPartitionKey, toPartitionRef, wireInteger } from './positions.ts';
import { toConnectError, toErrorMessage } from './wire-errors.ts';

/** Commits, seeks and releases of one stream that are being carried out. */
const MAX_CONCURRENT_REQUESTS = 1_000;

/** Records of all subscribers that were read and wait for their connections. */
const MAX_HELD_BYTES = 128 * 1024 * 1024;

/** The address of a call's client. */
export type PeerOf = (context: HandlerContext) => string;

export class SubscriberDoor implements ServiceImpl<typeof SubscriberService> {
  readonly #options: Omit<SubscriberSessionOptions, 'emit' | 'room'>;
  readonly #peerOf: PeerOf;
  /** Records that were read and not yet taken by the transport. */
  readonly #held = new ByteBudget(MAX_HELD_BYTES);

  constructor(options: Omit<SubscriberSessionOptions, 'emit' | 'room'>, peerOf: PeerOf) {
    this.#options = options;
    this.#peerOf = peerOf;
  }

  async *subscribe(requests: AsyncIterable<SubscribeRequest>, context: HandlerContext): AsyncIterable<SubscribeResponse> {
    const outbox = new Outbox<SessionEvent>();
    let heldBytes = 0;
    const iterator = requests[Symbol.asyncIterator]();
    let session: SubscriberSession | null = null;
    try {
      const first = await iterator.next();
      const message = first.done === true ? undefined : first.value.message;
      if (message?.case !== 'join') throw new NaruError('INVALID_REQUEST', 'the first message of a subscription must be `join`');
      const emit = (event: SessionEvent): void => {
        if (event.type === 'ended') outbox.end(event.error);
        else outbox.push(event);
        if (event.type === 'records') {
          heldBytes += recordBytes(event);
          this.#held.take(recordBytes(event));
        }
      };
      // Records are read for a subscriber only once it took the last ones, so that a slow one costs little memory.
      const room = (): Promise<void> | null => (heldBytes > 0 ? outbox.emptied() : this.#held.room());
      const joined = new SubscriberSession(toJoinRequest(message.value, this.#peerOf(context)), { ...this.#options, emit, room });
      session = joined;
      const serving = joined.open().then(() => serve(iterator, joined, (error) => outbox.end(error)));
      // A client that closes its side without leaving is gone: the stream ends, the membership goes on for a while.
      serving.then(
        () => outbox.end(),
        (error: unknown) => outbox.end(error),
      );
      for await (const event of outbox) {
        if (event.type === 'ended') continue;
        yield create(SubscribeResponseSchema, { message: toWire(event) });
        if (event.type !== 'records') continue;
        heldBytes -= recordBytes(event);
        this.#held.release(recordBytes(event));
      }
    } catch (error) {
      if (context.signal.aborted) return;
      throw toConnectError(error);
    } finally {
      this.#held.release(heldBytes);
      session?.disconnected();
    }
  }
}

/** Carries out requests until the client closes its side. Requests of one stream begin in their order. */
async function serve(
  iterator: AsyncIterator<SubscribeRequest>,
  session: SubscriberSession,
  fail: (error: unknown) => void,
): Promise<void> {
  let running = 0;
  const start = (work: Promise<void>): void => {
    running += 1;
    work.catch(fail).finally(() => {
      running -= 1;
    });
  };
  for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
    if (running >= MAX_CONCURRENT_REQUESTS) {
      throw new NaruError('INVALID_REQUEST', `${MAX_CONCURRENT_REQUESTS} requests are unanswered, which is the limit: wait for answers`);
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
            message.value.partitions.map((entry) => ({
              partition: toPartitionKey(entry.partition),
              offset: wireInteger(entry.offset, 'an offset'),
              finished: entry.finished.map(({ from, to }) => [wireInteger(from, 'an offset'), wireInteger(to, 'an offset')] as const),
              metadata: entry.metadata,
            })),
          ),
        );
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
    owned: join.owned.map(({ partition, nextOffset }) => ({
      partition: toPartitionKey(partition),
      nextOffset: wireInteger(nextOffset, 'an offset'),
    })),
  };
}

function recordBytes(event: Extract<SessionEvent, { type: 'records' }>): number {
  let bytes = 0;
  for (const { batches } of event.partitions) for (const batch of batches) bytes += batch.length;
  return bytes;
}

type WireMessage = NonNullable<MessageInitShape<typeof SubscribeResponseSchema>['message']>;

function toWire(event: Exclude<SessionEvent, { type: 'ended' }>): WireMessage {
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
      }));
      return { case: 'assigned', value: { memberEpoch: event.memberEpoch, partitions } };
    }
    case 'revoked': {
      const { memberEpoch, lost } = event;
      return { case: 'revoked', value: { memberEpoch, lost, partitions: event.partitions.map(toPartitionRef) } };
    }
    case 'records': {
      const partitions = event.partitions.map(({ partition, batches, highWatermark }) => ({
        partition: toPartitionRef(partition),
        batches: batches.length === 1 ? (batches[0] as Uint8Array) : Buffer.concat(batches),
        highWatermark: BigInt(highWatermark),
      }));
      return { case: 'records', value: { pollId: event.pollId, partitions } };
    }
    case 'committed': {
      const errors = event.errors.map(({ partition, refusal }) => ({ partition: toPartitionRef(partition), error: toErrorMessage(refusal) }));
      return { case: 'committed', value: { commitId: event.commitId, errors } };
    }
    case 'position-reset':
      return {
        case: 'positionReset',
        value: { partition: toPartitionRef(event.partition), from: BigInt(event.from), to: BigInt(event.to) },
      };
    case 'partition-failed':
      return { case: 'partitionFailed', value: { partition: toPartitionRef(event.partition), error: toErrorMessage(event.refusal) } };
    case 'left':
      return { case: 'left', value: {} };
  }
}
