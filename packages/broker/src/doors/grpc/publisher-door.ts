/** PublisherService: wire messages to publish.ts and producer-session.ts, and back. */
import { create, toBinary } from '@bufbuild/protobuf';
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import type { Logger } from '@naru/base';
import { NaruError } from '@naru/protocol';
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
import { MAX_IN_FLIGHT_BYTES, ProducerSession } from '../../service/producer-session.ts';
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

export class PublisherDoor implements ServiceImpl<typeof PublisherService> {
  readonly #options: PublisherDoorOptions;
  readonly #streams = new Set<Outbox<PublishAck>>();

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
      yield* this.#serve(requests, context.signal);
    } catch (error) {
      throw logged(toConnectError(error), this.#options.logger);
    }
  }

  /** {@link publishStream} without the library: see grpc-stream.ts. */
  streamMethod(): StreamMethod {
    const serve = async function* (responses: AsyncIterable<PublishStreamResponse>): AsyncIterable<Uint8Array[]> {
      for await (const response of responses) yield [toBinary(PublishStreamResponseSchema, response)];
    };
    return {
      path: '/naru.v1.PublisherService/PublishStream',
      serve: (requests, _peer, signal) => serve(this.#serve(decoded(PublishStreamRequestSchema, requests), signal)),
    };
  }

  async *#serve(
    requests: AsyncIterable<PublishStreamRequest>,
    signal: AbortSignal,
  ): AsyncIterable<PublishStreamResponse> {
    const acks = new Outbox<PublishAck>();
    this.#streams.add(acks);
    const session = new ProducerSession(
      this.#options.shard,
      this.#options.inFlight,
      ({ correlationId, baseOffset, refusal, next }) => {
        const error = refusal === null ? {} : { error: toErrorMessage(refusal) };
        const nextTransaction = next === undefined ? {} : { nextTransaction: toWireTransactionRef(next) };
        acks.push(
          create(PublishAckSchema, { correlationId, baseOffset: BigInt(baseOffset), ...error, ...nextTransaction }),
        );
        if (finished && session.inFlight === 0) acks.end();
      },
    );
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
      for (let ready = await acks.takeAll(); ready !== null; ready = await acks.takeAll()) {
        yield create(PublishStreamResponseSchema, { message: { case: 'acks', value: { acks: ready } } });
      }
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
    acks: Outbox<PublishAck>,
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

/** @throws NaruError INVALID_REQUEST */
function readCommit({ transaction, expected }: CommitTransaction) {
  const ref = toTransactionRef(transaction);
  if (ref === null) throw new NaruError('INVALID_REQUEST', 'say which transaction to commit');
  return {
    transaction: ref,
    expected: expected.map(({ partition, nextSequence }) => ({ partition: toPartitionKey(partition), nextSequence })),
  };
}
