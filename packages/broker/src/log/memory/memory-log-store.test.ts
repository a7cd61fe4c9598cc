import { partitionKey } from '@naru/base';
import type { TopicId } from '@naru/base';
import { RecordingVisitor, logStoreConformance, sampleBatch } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MemoryLogStore } from './memory-log-store.ts';

const vitest = { describe, it, expect, beforeEach, afterEach };

logStoreConformance(vitest, 'memory', async () => ({
  open: () => new MemoryLogStore(),
  persistent: false,
  dispose: async () => undefined,
}));

describe('MemoryLogStore', () => {
  it('is full at maxBytes, and open again when something was deleted', async () => {
    const key = partitionKey('0190f2a4-7c1e-7d3a-9b5f-001122334455' as TopicId, 0);
    const store = new MemoryLogStore({ maxBytes: 150 });
    await store.recover(new RecordingVisitor());
    await store.create(key);
    await store.append([sampleBatch(key, 0)]);
    expect(store.capacity().state).toBe('open');
    await store.append([sampleBatch(key, 1)]);
    expect(store.capacity().state).toBe('full');
    await store.deleteBefore(key, 2);
    expect(store.capacity().state).toBe('open');
  });
});
