import { partitionKey, type TopicId } from '@naru/base';
import { sampleBatch } from '@naru/testkit';
import { describe, expect, it } from 'vitest';
import type { StoredBatch } from '../log-store.ts';
import { PartitionLog } from './partition-log.ts';
import { TailCache } from './tail-cache.ts';

const TOPIC = '0190f2a4-7c1e-7d3a-9b5f-001122334455' as TopicId;
const REQUEST_BYTES = 10_000;

function newLog(partition: number): PartitionLog {
  return new PartitionLog(partitionKey(TOPIC, partition), '/segments', 0, 0);
}

/** A batch for each of `logs` in the memory of one request, appended and written. */
function appendRequest(cache: TailCache, logs: readonly PartitionLog[]): void {
  const memory = new ArrayBuffer(REQUEST_BYTES);
  let at = 0;
  for (const log of logs) {
    const sample = sampleBatch(log.key, log.endOffset);
    const records = new Uint8Array(memory, at, sample.records.length);
    records.set(sample.records);
    at += records.length;
    const batch: StoredBatch = { ...sample, records };
    log.append(batch);
    log.markWritten([batch]);
    cache.noteAppend(log, batch);
  }
}

describe('the cache of recent batches', () => {
  it('counts the memory of a request once, until the last of its batches has left', () => {
    const cache = new TailCache(0);
    const [first, second] = [newLog(0), newLog(1)];
    appendRequest(cache, [first, second]);
    expect(cache.bytes).toBe(REQUEST_BYTES);
    cache.noteRemoved(first.truncate(0));
    expect(cache.bytes).toBe(REQUEST_BYTES);
    cache.noteRemoved(second.delete());
    expect(cache.bytes).toBe(0);
  });

  it('evicts the oldest batches until the memory that is kept is within its limit', () => {
    const cache = new TailCache(2 * REQUEST_BYTES);
    const [first, second] = [newLog(0), newLog(1)];
    for (let i = 0; i < 3; i++) appendRequest(cache, [first, second]);
    cache.evict();
    expect(cache.bytes).toBe(2 * REQUEST_BYTES);
    expect([first.tailStart, second.tailStart]).toEqual([1, 1]);
  });
});
