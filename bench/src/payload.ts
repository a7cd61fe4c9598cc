/** What all scenarios move: incompressible values of 1 KiB, and batches of them. */
import { randomBytes } from 'node:crypto';
import { BatchBuilder } from '@naru/protocol/batch';

export const VALUE_BYTES = 1024;
/** Size of a batch, as the SDK's `batchBytes` has it by default. */
export const BATCH_BYTES = 64 * 1024;
/** Different values, so that no cache of the machine holds them all. */
const VALUES = 8_192;
const KEYS = 1_000;

/** Values to publish, again and again. */
export function values(): readonly Uint8Array[] {
  return Array.from({ length: VALUES }, () => randomBytes(VALUE_BYTES));
}

/** Their keys, as a service would have them: text. */
export function keys(count = KEYS): readonly string[] {
  return Array.from({ length: count }, (_, index) => `customer-${String(index).padStart(6, '0')}`);
}

export interface SampleBatch {
  readonly bytes: Uint8Array;
  readonly events: number;
}

/** An encoded batch, as the SDK would send it. */
export function sampleBatch(): SampleBatch {
  const builder = new BatchBuilder({ maxBytes: BATCH_BYTES, initialBytes: BATCH_BYTES });
  const key = Buffer.from(keys()[0] as string);
  for (;;) {
    if (!builder.tryAppend(key, randomBytes(VALUE_BYTES), undefined, Date.now())) break;
  }
  const events = builder.count;
  return { bytes: builder.build(), events };
}
