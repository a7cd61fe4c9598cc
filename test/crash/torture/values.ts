/** What travels in the events of a torture test: the history checker's values, and where a value goes. */

/** As in the history checker, which clients must not import. */
const COUNTERS = 2 ** 32;
/** Keys of a writer: what has one key is in order, also behind a pipeline. */
export const LANES = 4;
/** One value of so many goes into the pipeline's input, the others into the other topic. */
export const INPUT_SHARE = 5;
export const BULK = 'bulk';
export const INPUT = 'input';
export const OUTPUT = 'output';
/** By their index in what clients tell. */
export const TOPICS = [BULK, INPUT] as const;
const MAX_PADDING_BYTES = 150;

export function valueOf(writer: number, counter: number): number {
  return writer * COUNTERS + counter;
}

export function topicIndexOf(counter: number): 0 | 1 {
  return counter % INPUT_SHARE === 0 ? 1 : 0;
}

export function isInput(value: number): boolean {
  return topicIndexOf(value % COUNTERS) === 1;
}

export function keyOf(value: number): string {
  return `${Math.floor(value / COUNTERS)}-${(value % COUNTERS) % LANES}`;
}

/** For clients that choose partitions themselves: one for a key. */
export function partitionOf(value: number, partitions: number): number {
  return (Math.floor(value / COUNTERS) * 7 + ((value % COUNTERS) % LANES)) % partitions;
}

/** 8 bytes of value, then padding whose size is the value's, too. */
export function payloadOf(value: number): Uint8Array {
  const bytes = new Uint8Array(8 + ((value * 31) % MAX_PADDING_BYTES));
  new DataView(bytes.buffer).setFloat64(0, value);
  return bytes;
}

export function valueIn(payload: Uint8Array): number {
  return new DataView(payload.buffer, payload.byteOffset).getFloat64(0);
}
