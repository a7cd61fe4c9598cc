/** Tells publishers what became of their records: the promise of a `publish`, the listeners for what was enqueued. */
import type { Logger } from '@naru/base';
import type { NaruError } from '@naru/protocol';
import type { CompressionCodecs } from '@naru/protocol/batch';
import { iterateRecords } from '@naru/protocol/batch';
import type { OutgoingBatch } from './outgoing-batch.ts';
import type { PartitionQueueOptions } from './partition-queue.ts';
import { headerList } from './cloud-events.ts';
import { PublishResult } from './publish-result.ts';
import type { Delivery, DeliveryListener } from './publish-result.ts';
import type { PendingRecord } from './topic-route.ts';

export class DeliveryReports {
  readonly #listeners = new Set<DeliveryListener>();
  readonly #logger: Logger;
  readonly #codecs: CompressionCodecs;

  constructor(logger: Logger, codecs: CompressionCodecs) {
    this.#logger = logger;
    this.#codecs = codecs;
  }

  /** @returns a function that ends it */
  listen(listener: DeliveryListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The fate of a whole batch. */
  settled(
    { topic, topicId, partition }: PartitionQueueOptions,
    batch: OutgoingBatch,
    error: NaruError | null,
    baseOffset: number,
  ): void {
    const { count, timestampsMs } = batch;
    let hasEnqueued = false;
    const isHeard = this.#listeners.size > 0;
    for (let i = 0; i < count; i++) {
      const settler = batch.settler(i);
      if (settler === undefined) hasEnqueued = true;
      if (error !== null) settler?.reject(error);
      else if (settler !== undefined || isHeard) {
        const result = new PublishResult(topic, topicId, partition, baseOffset + i, timestampsMs[i] as number);
        if (settler === undefined) this.#tell({ ok: true, result });
        else settler.resolve(result);
      }
    }
    if (error !== null && hasEnqueued) this.#tellFailed(topic, partition, batch, error);
  }

  /** The failure of a record that never got into a batch. */
  refused(record: Omit<PendingRecord, 'timestampMs' | 'createdMs' | 'sizeBytes'>, error: NaruError): void {
    if (record.settler !== null) {
      record.settler.reject(error);
      return;
    }
    const { topic, partition, key, value } = record;
    this.#tell({ ok: false, error, topic, partition, key, value, headers: headerList(record.headers) });
  }

  #tellFailed(topic: string, partition: number, batch: OutgoingBatch, error: NaruError): void {
    if (this.#listeners.size === 0) {
      const fields = { topic, partition, events: batch.count, code: error.code, error: error.message };
      this.#logger.error(fields, 'events were not delivered, and nobody listens: use onDelivery()');
      return;
    }
    let index = 0;
    // Read back from the batch, so that nothing has to be kept for the many that succeed.
    for (const { key, value, headers } of iterateRecords(batch.takeBytes(), this.#codecs)) {
      if (batch.settler(index) === undefined) this.#tell({ ok: false, error, topic, partition, key, value, headers });
      index += 1;
    }
  }

  #tell(delivery: Delivery): void {
    if (!delivery.ok && this.#listeners.size === 0) {
      const { topic, error } = delivery;
      const fields = { topic, code: error.code, error: error.message };
      this.#logger.error(fields, 'an event was not delivered, and nobody listens: use onDelivery()');
    }
    for (const listener of this.#listeners) {
      try {
        listener(delivery);
      } catch (error) {
        this.#logger.error({ error: String(error) }, 'a delivery listener threw');
      }
    }
  }
}
