import { describe, expect, test } from 'vitest';
import { nodeCompressionCodecs as codecs } from '@naru/protocol/compression-node';
import {
  decodeRecords,
  encodeBatch,
  encodeControlMarker,
  readBatchHeader,
  setBatchOffsets,
  type EncodeBatchOptions,
} from '@naru/protocol/batch';
import { compactableRecords, makeRewriter, type RewriterOptions } from './batch-rewriter.ts';
import { AbortedRecords } from '../partition/transaction-index.ts';
import { KeyOffsets } from './key-offsets.ts';

const NOW = 1_700_000_000_000;
const RETENTION_MS = 1_000;
const END = 1_000;

/** `k=v` a value, `k` a tombstone, `=v` a record without a key. */
function batchAt(baseOffset: number, records: string, options: EncodeBatchOptions = {}): Uint8Array {
  const list = records.split(' ').map((record) => {
    const [key, value] = record.split('=') as [string, string?];
    const bytes = (part: string | undefined): Uint8Array | null =>
      part === undefined ? null : new TextEncoder().encode(part);
    return { key: key === '' ? null : bytes(key), value: bytes(value), timestampMs: NOW - 50 };
  });
  return encodeBatch(list, { ...options, baseOffset }, codecs);
}

function shown(batch: Uint8Array | null): string | null {
  if (batch === null) return null;
  const part = (bytes: Uint8Array | null): string => (bytes === null ? '' : new TextDecoder().decode(bytes));
  const list = decodeRecords(batch, codecs);
  return list.map((r) => `${r.offset}:${part(r.key)}${r.value === null ? '' : `=${part(r.value)}`}`).join(' ');
}

type Run = Partial<RewriterOptions> & {
  readonly endOffset?: number;
  /** First and last offset of aborted transactions of producer 4. */
  readonly aborted?: readonly (readonly [number, number])[];
};

/** One pass over the batches, all of them dirty unless `cleanEnd` says otherwise. */
function compact(batches: readonly Uint8Array[], run: Run = {}, cleanEnd = 0): (Uint8Array | null)[] {
  const transactions = (run.aborted ?? []).map(([firstOffset, lastOffset]) => ({
    producerId: 4,
    firstOffset,
    lastOffset,
  }));
  const aborted = new AbortedRecords(transactions);
  const keys = new KeyOffsets({ maxBytes: 2 ** 20 });
  for (const batch of batches) {
    if (readBatchHeader(batch).baseOffset < cleanEnd) continue;
    for (const { key, offset } of compactableRecords(batch, codecs, aborted) ?? [])
      if (key !== null) keys.put(key, offset);
  }
  const options = { nowMs: NOW, deleteRetentionMs: RETENTION_MS, codecs, ...run };
  const rewriter = makeRewriter(keys, run.endOffset ?? END, aborted, options);
  return batches.map((records) => rewriter({ baseOffset: readBatchHeader(records).baseOffset, records }));
}

const present = (batches: readonly (Uint8Array | null)[]): Uint8Array[] => batches.filter((batch) => batch !== null);

describe('a pass', () => {
  test('keeps of each key the newest record, every record without a key, and untouched batches as they are', () => {
    const batches = [batchAt(0, 'a=1 b=1 =x'), batchAt(3, 'a=2 a=3'), batchAt(5, 'a=4 c=1'), batchAt(7, 'd=1')];
    const after = compact(batches);
    expect(after.map(shown)).toEqual(['1:b=1 2:=x', null, '5:a=4 6:c=1', '7:d=1']);
    expect(after[2]).toBe(batches[2]);
  });

  test('leaves alone what is at its end or beyond, also within a batch', () => {
    const batches = [batchAt(0, 'a=1 b=1'), batchAt(2, 'a=2 a=3 a=4'), batchAt(5, 'b=2')];
    expect(compact(batches, { endOffset: 3 }).map(shown)).toEqual([null, '3:a=3 4:a=4', '5:b=2']);
    expect(compact(batches, { endOffset: 2 })[1]).toBe(batches[1]);
  });

  test('keeps tombstones for their time after it first met them, then removes them', () => {
    const first = compact([batchAt(0, 'a=1 b=1'), batchAt(2, 'a c=1'), batchAt(4, 'z=1')]);
    expect(first.map(shown)).toEqual(['1:b=1', '2:a 3:c=1', '4:z=1']);
    expect(readBatchHeader(first[1] as Uint8Array).deleteHorizonMs).toBe(NOW + RETENTION_MS);
    expect(readBatchHeader(first[0] as Uint8Array).deleteHorizonMs).toBeNull();
    const early = compact(present(first), { nowMs: NOW + RETENTION_MS - 1 });
    expect(early).toEqual(first);
    expect(compact(present(first), { nowMs: NOW + RETENTION_MS }).map(shown)).toEqual(['1:b=1', '3:c=1', '4:z=1']);
  });

  test('removes a tombstone at once when its key came again', () => {
    expect(compact([batchAt(0, 'a'), batchAt(1, 'a=2')]).map(shown)).toEqual([null, '1:a=2']);
  });

  test('keeps tombstones for ever when their time has no end', () => {
    const batches = [batchAt(0, 'a')];
    const after = compact(batches, { deleteRetentionMs: Infinity });
    expect(after).toEqual(batches);
    expect(compact(present(after), { deleteRetentionMs: Infinity, nowMs: NOW * 2 })).toEqual(batches);
  });

  test('removes a tombstone of the clean part although its key is not in the dirty one', () => {
    const clean = present(compact([batchAt(0, 'a=1'), batchAt(1, 'a')]));
    const batches = [...clean, batchAt(2, 'b=1')];
    expect(compact(batches, { nowMs: NOW + RETENTION_MS }, 2).map(shown)).toEqual([null, '2:b=1']);
  });

  const transaction = { producerId: 4, producerEpoch: 0, baseSequence: 0, isTransactional: true };
  function markerAt(offset: number, type: 'commit' | 'abort'): Uint8Array {
    const marker = encodeControlMarker({
      type,
      coordinatorEpoch: 1,
      timestampMs: NOW,
      producerId: 4,
      producerEpoch: 0,
    });
    setBatchOffsets(marker, offset, 0);
    return marker;
  }

  test('keeps markers, and counts what was committed as any other record', () => {
    const batches = [batchAt(0, 'a=1'), batchAt(1, 'a=2', transaction), markerAt(2, 'commit'), batchAt(3, 'b=1')];
    const after = compact(batches);
    expect(after.map((batch, i) => batch === batches[i])).toEqual([false, true, true, true]);
    const superseded = compact([...batches, batchAt(4, 'a=3')]);
    expect(superseded.map((batch) => batch === null)).toEqual([true, true, false, false, false]);
  });

  test('removes what was aborted, which supersedes nothing and whose tombstones delete nothing', () => {
    const batches = [
      batchAt(0, 'a=1 b=1'),
      batchAt(2, 'a=2 b', transaction),
      markerAt(4, 'abort'),
      batchAt(5, 'c=1', transaction),
      markerAt(6, 'commit'),
    ];
    const after = compact(batches, { aborted: [[2, 4]] });
    expect(after.map((batch, i) => (batch === batches[i] ? 'kept' : shown(batch)))).toEqual([
      'kept',
      null,
      'kept',
      'kept',
      'kept',
    ]);
  });

  test('keeps a batch that it cannot decode, and every tombstone after it', () => {
    const opaque = batchAt(1, 'a=1 a=2');
    opaque[70] = (opaque[70] as number) ^ 1;
    const first = compact([batchAt(0, 'x'), opaque, batchAt(3, 'a')]);
    expect(first[1]).toBe(opaque);
    expect(first.map((batch) => readBatchHeader(batch as Uint8Array).deleteHorizonMs)).toEqual([
      NOW + RETENTION_MS,
      null,
      NOW + RETENTION_MS,
    ]);
    const after = compact(present(first), { nowMs: NOW + RETENTION_MS });
    expect(after.map((batch) => batch === null)).toEqual([true, false, false]);
  });
});
