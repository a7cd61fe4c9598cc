/**
 * A batch on its way: the records, who waits for them, and what is known about its fate.
 *
 * Its bytes are never changed once they were handed to a stream: a new identity gets a copy, since the connection may
 * still hold the old ones.
 */
import { assert } from '@naru/base';
import type { BatchBuilder, BuildOptions, CompressionCodecs, RecordHeaders } from '@naru/protocol/batch';
import { rewriteProducer } from '@naru/protocol/batch';
import type { NaruError } from '@naru/protocol';
import type { Deferred } from '../deferred.ts';
import { deferred } from '../deferred.ts';
import type { PublishResult } from './publish-result.ts';

/** Who waits for one record. */
export interface Settler {
  readonly resolve: (result: PublishResult) => void;
  readonly reject: (error: NaruError) => void;
}

export type BatchState =
  /** Not built: no sequence yet. */
  | 'gathering'
  /** On a stream, no answer yet. */
  | 'sent'
  /** Was sent; whether it is stored is not known. Only a repetition with the same sequence finds out. */
  | 'unknown'
  /** Certainly not stored. */
  | 'unstored'
  | 'settled';

/** Producer id, epoch and base sequence. */
export interface ProducerIdentity {
  readonly producerId: number;
  readonly producerEpoch: number;
  readonly baseSequence: number;
}

export class OutgoingBatch {
  readonly #builder: BatchBuilder;
  #whenSettled: Deferred<void> | null = null;
  #bytes: Uint8Array | null = null;
  #settlers: (Settler | undefined)[] | null = null;
  state: BatchState = 'gathering';
  /** Monotonic milliseconds at the first record. */
  readonly createdMs: number;
  readonly timestampsMs: number[] = [];
  /** Bytes of the publisher's memory limit that it holds. */
  reservedBytes = 0;
  /** Send it without waiting for more records. */
  urgent = false;
  baseSequence = -1;
  /** Counts the batches of its partition. */
  ordinal = 0;
  /** While it is on a stream. */
  correlationId = 0;
  sentMs = 0;
  /** Whether everything before it had been answered when it was sent last. */
  sentAsHead = false;
  buildError: unknown = null;

  constructor(builder: BatchBuilder, createdMs: number) {
    this.#builder = builder;
    this.createdMs = createdMs;
  }

  get count(): number {
    return this.timestampsMs.length;
  }

  /** Bytes gathered, before compression. */
  get sizeBytes(): number {
    return this.#builder.sizeBytes;
  }

  /** Bytes of the built batch. */
  get bytes(): Uint8Array {
    assert(this.#bytes !== null, 'a batch is built before its bytes are used');
    return this.#bytes;
  }

  /** @returns false when the batch is full */
  append(
    key: Uint8Array | null,
    value: Uint8Array | null,
    headers: RecordHeaders | undefined,
    timestampMs: number,
    settler: Settler | null,
  ): boolean {
    if (!this.#builder.tryAppend(key, value, headers, timestampMs)) return false;
    if (settler !== null) {
      this.#settlers ??= [];
      this.#settlers[this.timestampsMs.length] = settler;
    }
    this.timestampsMs.push(timestampMs);
    return true;
  }

  /** @returns false when it could not be compressed; {@link buildError} says why */
  build(options: BuildOptions & ProducerIdentity, codecs: CompressionCodecs): boolean {
    try {
      this.#bytes = this.#builder.build(options, codecs);
      this.baseSequence = options.baseSequence;
      return true;
    } catch (error) {
      this.buildError = error;
      return false;
    }
  }

  /** The same records under another identity, once the old one is known not to be stored. */
  renumber({ producerId, producerEpoch, baseSequence }: ProducerIdentity): void {
    const copy = this.bytes.slice();
    rewriteProducer(copy, producerId, producerEpoch, baseSequence);
    this.#bytes = copy;
    this.baseSequence = baseSequence;
  }

  settler(index: number): Settler | undefined {
    return this.#settlers?.[index];
  }

  /** Resolves once every record is stored or given up; never rejects. */
  whenSettled(): Promise<void> {
    if (this.state === 'settled') return Promise.resolve();
    this.#whenSettled ??= deferred();
    return this.#whenSettled.promise;
  }

  /** Lets go of everything. */
  settle(): void {
    assert(this.state !== 'settled', 'a batch is settled once');
    this.state = 'settled';
    this.#settlers = null;
    this.#whenSettled?.resolve();
  }

  /** Bytes for reports about a batch that failed; of one that was never built, too. */
  takeBytes(): Uint8Array {
    return this.#bytes ?? this.#builder.build();
  }
}
