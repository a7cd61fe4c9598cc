/** PublisherService: wire messages to publish.ts and producer-session.ts, and back. */
import { create, toBinary } from '@bufbuild/protobuf';
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import type { Logger } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { decodePublishBatch, encodePublishAcks } from '@naru/protocol/grpc-frames';
import {
  PublishAckSchema,
  PublishResponseSchema,
  PublishResultSchema,
  PublishStreamRequestSchema,
  PublishStreamResponseSchema,
  type CommitTransaction,
  type PublisherService,
  type PublishAck,
  type PublishRequest,
  type PublishResponse,
  type PublishStreamRequest,
  type PublishStreamResponse,
} from '@naru/protocol/proto';
import { isRefusal, type ShardClient } from '../../runtime/commands.ts';
import type { ByteBudget } from '../../service/byte-budget.ts';
import { MAX_IN_FLIGHT_BYTES, ProducerSession, type BatchOutcome } from '../../service/producer-session.ts';
import type { ProducerIds } from '../../service/producer-ids.ts';
import type { TransactionService } from '../../service/transactions.ts';
import type { PublishService } from '../../service/publish.ts';
import { decoded, type StreamMethod } from './grpc-stream.ts';
import { Outbox } from './outbox.ts';
import { toPlainRecord } from './plain-records.ts';
import { toPartitionKey } from './positions.ts';
import { toTransactionRef, toWireTransactionRef } from './transaction-refs.ts';
import { logged, toConnectError, toErrorMessage } from './wire-errors.ts';

/** Acknowledgements that a publisher has not read, beyond which its batches are not read either. */
const MAX_UNREAD_ACKS = 10_000;

export interface PublisherDoorOptions {
  readonly publish: PublishService;
  readonly producerIds: ProducerIds;
  readonly transactions: Pick<TransactionService, 'end'>;
  readonly shard: ShardClient;
  readonly maxBatchBytes: number;
  /** Batches that are taken and not durable, of all doors. */
  readonly inFlight: ByteBudget;
  readonly logger: Logger;
}

/** What a stream says: that it is open, or outcomes. */
type Said = PublishStreamResponse | readonly BatchOutcome[];

export class PublisherDoor implements ServiceImpl<typeof PublisherService> {
  readonly #options: PublisherDoorOptions;
  readonly #streams = new Set<Outbox<BatchOutcome>>();

  constructor(options: PublisherDoorOptions) {
    this.#options = options;
  }

  get openStreams(): number {
    return this.#streams.size;
  }

  /** Ends every stream, after its last acknowledgements. */
  close(): void {
    const error = new NaruError('SHUTTING_DOWN', 'the broker is shutting down');
    for (const acks of this.#streams) acks.end(error);
  }

  async publish(request: PublishRequest): Promise<PublishResponse> {
    try {
      const { topic, records, transaction } = request;
      const ref = toTransactionRef(transaction);
      const results = await this.#options.publish.publish(topic, records.map(toPlainRecord), ref);
      if (isRefusal(results)) throw NaruError.from(results);
      return create(PublishResponseSchema, {
        results: results.map((result) =>
          isRefusal(result)
            ? create(PublishResultSchema, { error: toErrorMessage(result) })
            : create(PublishResultSchema, {
                ...result,
                offset: BigInt(result.offset),
                timestampMs: BigInt(result.timestampMs),
              }),
        ),
      });
    } catch (error) {
      throw logged(toConnectError(error), this.#options.logger);
    }
  }

  async *publishStream(
    requests: AsyncIterable<PublishStreamRequest>,
    context: HandlerContext,
  ): AsyncIterable<PublishStreamResponse> {
    try {
      for await (const said of this.#serve(requests, context.signal)) yield toResponse(said);
    } catch (error) {
      throw logged(toConnectError(error), this.#options.logger);
    }
  }

  /** {@link publishStream} without the library: see grpc-stream.ts. */
  streamMethod(): StreamMethod {
    const serve = async function* (answers: AsyncIterable<Said>): AsyncIterable<Uint8Array[]> {
      for await (const said of answers) yield [encode(said)];
    };
    const read = (requests: AsyncIterable<Uint8Array>) => decoded(PublishStreamRequestSchema, requests, readBatch);
    return {
      path: '/naru.v1.PublisherService/PublishStream',
      serve: (requests, _peer, signal) => serve(this.#serve(read(requests), signal)),
    };
  }

  async *#serve(requests: AsyncIterable<PublishStreamRequest>, signal: AbortSignal): AsyncIterable<Said> {
    const acks = new Outbox<BatchOutcome>();
    this.#streams.add(acks);
    const session = new ProducerSession(this.#options.shard, this.#options.inFlight, (outcome) => {
      acks.push(outcome);
      if (finished && session.inFlight === 0) acks.end();
    });
    let finished = false;
    const iterator = requests[Symbol.asyncIterator]();
    try {
      yield await this.#open(iterator);
      void this.#read(iterator, session, acks).then(
        () => {
          finished = true;
          if (session.inFlight === 0) acks.end();
        },
        (error: unknown) => acks.end(error),
      );
      for (let ready = await acks.takeAll(); ready !== null; ready = await acks.takeAll()) yield ready;
    } catch (error) {
      // A connection that broke is nobody's error here.
      if (signal.aborted) return;
      throw error;
    } finally {
      acks.end();
      this.#streams.delete(acks);
    }
  }

  async #open(iterator: AsyncIterator<PublishStreamRequest>): Promise<PublishStreamResponse> {
    const first = await iterator.next();
    const message = first.done === true ? undefined : first.value.message;
    if (message?.case !== 'open')
      throw new NaruError('INVALID_REQUEST', 'the first message of a publish stream must be `open`');
    const { producerId } = message.value;
    const { maxBatchBytes, producerIds } = this.#options;
    return create(PublishStreamResponseSchema, {
      message: {
        case: 'opened',
        value: {
          producerId: producerId ?? BigInt(await producerIds.next()),
          maxBatchBytes,
          maxInFlightBytes: MAX_IN_FLIGHT_BYTES,
        },
      },
    });
  }

  async #read(
    iterator: AsyncIterator<PublishStreamRequest>,
    session: ProducerSession,
    acks: Outbox<BatchOutcome>,
  ): Promise<void> {
    for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
      const { message } = next.value;
      if (message.case === 'batch') {
        const { correlationId, topicId, partition, records } = message.value;
        session.take(correlationId, topicId, partition, records);
      } else if (message.case === 'commit') {
        const { transaction, expected } = readCommit(message.value);
        const end = () => this.#options.transactions.end(transaction, true, expected);
        session.commit(message.value.correlationId, transaction, end);
      } else {
        throw new NaruError(
          'INVALID_REQUEST',
          'after `open` a publish stream carries `batch` and `commit` messages only',
        );
      }
      for (let ready = session.ready(); ready !== null; ready = session.ready()) await ready;
      if (acks.length >= MAX_UNREAD_ACKS) await acks.emptied();
    }
  }
}

/** Null for other messages. */
function readBatch(bytes: Uint8Array): PublishStreamRequest | null {
  const batch = decodePublishBatch(bytes);
  if (batch === null) return null;
  const value = { $typeName: 'naru.v1.PublishBatch', ...batch } as const;
  return { $typeName: 'naru.v1.PublishStreamRequest', message: { case: 'batch', value } };
}

function isResponse(said: Said): said is PublishStreamResponse {
  return '$typeName' in said;
}

function encode(said: Said): Uint8Array {
  const isStored = !isResponse(said) && said.every(({ refusal, next }) => refusal === null && next === undefined);
  return isStored ? encodePublishAcks(said) : toBinary(PublishStreamResponseSchema, toResponse(said));
}

function toResponse(said: Said): PublishStreamResponse {
  if (isResponse(said)) return said;
  return create(PublishStreamResponseSchema, { message: { case: 'acks', value: { acks: said.map(toAck) } } });
}

function toAck({ correlationId, baseOffset, refusal, next }: BatchOutcome): PublishAck {
  const error = refusal === null ? {} : { error: toErrorMessage(refusal) };
  const nextTransaction = next === undefined ? {} : { nextTransaction: toWireTransactionRef(next) };
  return create(PublishAckSchema, { correlationId, baseOffset: BigInt(baseOffset), ...error, ...nextTransaction });
}

/** @throws NaruError INVALID_REQUEST */
function readCommit({ transaction, expected }: CommitTransaction) {
  const ref = toTransactionRef(transaction);
  if (ref === null) throw new NaruError('INVALID_REQUEST', 'say which transaction to commit');
  return {
    transaction: ref,
    expected: expected.map(({ partition, nextSequence }) => ({ partition: toPartitionKey(partition), nextSequence })),
  };
}
