import { partitionKey, type TopicId } from '@naru/base';
import { sampleBatch } from '@naru/testkit';
import { describe, expect, it } from 'vitest';
import { ownMemory } from './own-memory.ts';

const entry = sampleBatch(partitionKey('0190f2a4-7c1e-7d3a-9b5f-001122334455' as TopicId, 0), 0);

describe('ownMemory', () => {
  it('takes a small batch out of a large request, whole', () => {
    const records = new Uint8Array(new ArrayBuffer(10_000), 7, entry.records.length);
    records.set(entry.records);
    const owned = ownMemory({ ...entry, records });
    expect(owned).toEqual({ ...entry, records: Buffer.from(entry.records) });
    expect(owned.records.buffer.byteLength).toBe(entry.records.length);
  });

  it('leaves a batch that is most of its memory where it is', () => {
    const whole = { ...entry, records: new Uint8Array(new ArrayBuffer(entry.records.length + 30), 30) };
    expect(ownMemory(whole)).toBe(whole);
  });
});
