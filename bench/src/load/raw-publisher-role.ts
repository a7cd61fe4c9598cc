/**
 * A publisher on a bare stream, without the SDK: batches of 1 KiB events.
 *
 * Encoded as they are sent, with or without the producer id, epoch and sequence that make repeating them safe: what differs is what
 * idempotence costs. Or one batch again and again, encoded before: the load that costs a publisher least.
 */
import { connect, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { connect as connectNaru } from '@naru/client';
import { BatchBuilder } from '@naru/protocol/batch';
import { encodePublishBatch, frameOf, GrpcFrameReader } from '@naru/protocol/grpc-frames';
import { PublishStreamRequestSchema, PublishStreamResponseSchema } from '@naru/protocol/proto';
import type { LoadResult } from '../measurement.ts';
import { BATCH_BYTES, VALUE_BYTES, keys, sampleBatch, values } from '../payload.ts';
import type { SampleBatch } from '../payload.ts';
import { clientSettings } from './http2-options.ts';

const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
/** Of a partition; as many as it remembers of a producer. */
const BATCHES_IN_FLIGHT = 5;
/** Of encoded batches, over all partitions: as many bytes as the broker lets a stream have. */
const ENCODED_BYTES_IN_FLIGHT = 8 * 1024 * 1024;
const SEQUENCES = 2 ** 31;

export interface RawPublisherOptions {
  readonly bootstrap: string;
  readonly topic: string;
  readonly partitions: number;
}

/** `encoded`: without producer id, all the same. */
type BatchKind = 'idempotent' | 'plain' | 'encoded';

interface OpenPartition {
  readonly partition: number;
  sequence: number;
}

interface RawLoad {
  readonly seconds: number;
  readonly batches: BatchKind;
}

export async function openRawPublisher({ bootstrap, topic, partitions }: RawPublisherOptions) {
  const naru = await connectNaru({ brokers: [bootstrap] });
  const created = await naru.admin.createTopic(topic, { partitions });
  await naru.close();
  const topicId = Buffer.from(created.topicId.replaceAll('-', ''), 'hex');
  const load = new RawPublisher(bootstrap, topicId, partitions);
  const producerId = await load.open();
  const encoded = sampleBatch();
  const encodedInFlight = Math.floor(ENCODED_BYTES_IN_FLIGHT / encoded.bytes.length / partitions);
  const publishFor = ({ seconds, batches }: RawLoad): Promise<LoadResult> => {
    if (batches === 'encoded') return load.publishFor(seconds, encodedInFlight, () => encoded);
    const producer = batches === 'idempotent' ? producerId : null;
    return load.publishFor(seconds, BATCHES_IN_FLIGHT, (to) => load.encode(to, producer));
  };
  return { ready: {}, commands: { publishFor }, close: () => load.close() };
}

class RawPublisher {
  readonly #session: ClientHttp2Session;
  readonly #stream: ClientHttp2Stream;
  readonly #topicId: Uint8Array;
  readonly #targets: readonly OpenPartition[];
  readonly #values = values();
  readonly #keys = keys().map((key) => Buffer.from(key));
  readonly #opened = Promise.withResolvers<number>();
  #next = 0;
  #acknowledged = (_partition: number): void => {};
  #failed = (error: Error): void => this.#opened.reject(error);

  constructor(bootstrap: string, topicId: Uint8Array, partitions: number) {
    this.#topicId = topicId;
    this.#targets = Array.from({ length: partitions }, (_, partition) => ({ partition, sequence: 0 }));
    this.#session = connect(`http://${bootstrap}`, { settings: clientSettings });
    this.#stream = this.#session.request({
      ':method': 'POST',
      ':path': '/naru.v1.PublisherService/PublishStream',
      'content-type': 'application/grpc+proto',
      te: 'trailers',
    });
    const reader = new GrpcFrameReader(MAX_MESSAGE_BYTES);
    this.#stream.on('error', (error) => this.#failed(error));
    this.#stream.on('data', (chunk: Buffer) => reader.push(chunk, (bytes) => this.#take(bytes)));
  }

  /** @returns the producer id that the broker gave */
  open(): Promise<number> {
    const open = create(PublishStreamRequestSchema, { message: { case: 'open', value: { clientId: 'bench' } } });
    this.#write([toBinary(PublishStreamRequestSchema, open)]);
    return this.#opened.promise;
  }

  /** As fast as it goes, and until the last batch is stored. @param inFlight batches of a partition that are not answered */
  async publishFor(seconds: number, inFlight: number, next: (to: OpenPartition) => SampleBatch): Promise<LoadResult> {
    const startMs = performance.now();
    const endMs = startMs + seconds * 1_000;
    let sent = 0;
    let unanswered = 0;
    const done = Promise.withResolvers<void>();
    this.#failed = done.reject;
    const send = (to: OpenPartition): void => {
      const { bytes, events } = next(to);
      sent += events;
      unanswered += 1;
      this.#write(encodePublishBatch(to.partition, this.#topicId, to.partition, bytes));
    };
    this.#acknowledged = (partition) => {
      unanswered -= 1;
      if (performance.now() < endMs) send(this.#targets[partition] as OpenPartition);
      else if (unanswered === 0) done.resolve();
    };
    for (const to of this.#targets) for (let index = 0; index < inFlight; index++) send(to);
    await done.promise;
    return { events: sent, bytes: sent * VALUE_BYTES, seconds: (performance.now() - startMs) / 1_000 };
  }

  /** A batch of the next values. @param producerId null: of nobody */
  encode(to: OpenPartition, producerId: number | null): SampleBatch {
    const builder = new BatchBuilder({ maxBytes: BATCH_BYTES, initialBytes: BATCH_BYTES });
    const nowMs = Date.now();
    for (;;) {
      const value = this.#values[this.#next % this.#values.length] as Uint8Array;
      const key = this.#keys[this.#next % this.#keys.length] as Uint8Array;
      if (!builder.tryAppend(key, value, undefined, nowMs)) break;
      this.#next += 1;
    }
    const events = builder.count;
    if (producerId === null) return { bytes: builder.build(), events };
    const baseSequence = to.sequence;
    to.sequence = (baseSequence + events) % SEQUENCES;
    return { bytes: builder.build({ producerId, producerEpoch: 0, baseSequence }), events };
  }

  close(): void {
    this.#session.destroy();
  }

  #write(pieces: readonly Uint8Array[]): void {
    this.#stream.cork();
    for (const piece of frameOf(pieces)) this.#stream.write(piece);
    this.#stream.uncork();
  }

  #take(bytes: Uint8Array): void {
    const { message } = fromBinary(PublishStreamResponseSchema, bytes);
    if (message.case === 'opened') this.#opened.resolve(Number(message.value.producerId));
    if (message.case !== 'acks') return;
    for (const { correlationId, error } of message.value.acks) {
      if (error !== undefined) this.#failed(new Error(`${error.code}: ${error.message}`));
      this.#acknowledged(correlationId);
    }
  }
}
