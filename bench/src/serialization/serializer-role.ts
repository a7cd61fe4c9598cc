/** A process that writes and reads one event again and again, in one format. */
import type { LoadResult } from '../measurement.ts';
import { bareCodecs } from './bare-libraries.ts';
import { naruCodecs } from './naru-serdes.ts';
import { order } from './sample-order.ts';

/** Events between two looks at the clock. */
const BURST = 200;

export interface Codec {
  write(value: unknown): Uint8Array | Promise<Uint8Array>;
  read(bytes: Uint8Array): unknown;
}

export type CodecName = keyof typeof naruCodecs | keyof typeof bareCodecs;

export interface SerializerOptions {
  readonly codec: CodecName;
}

export async function openSerializer({ codec: name }: SerializerOptions) {
  const codec: Codec = await { ...naruCodecs, ...bareCodecs }[name]();
  const bytes = await codec.write(order);
  const read = await codec.read(bytes);
  check(read, bytes);
  return {
    ready: { bytes: bytes.length },
    commands: {
      write: ({ seconds }: { seconds: number }) => repeat(seconds, bytes.length, () => codec.write(order)),
      read: ({ seconds }: { seconds: number }) => repeat(seconds, bytes.length, () => codec.read(bytes)),
    },
    close: () => Promise.resolve(),
  };
}

/** So that nobody is quick by doing nothing. */
function check(read: unknown, bytes: Uint8Array): void {
  const { id, lines } = read as typeof order;
  const isSame = id === order.id && lines.length === order.lines.length && lines[9]?.title === order.lines[9]?.title;
  if (!isSame || bytes.length < 500) throw new Error('what was read is not what was written');
}

function repeat(seconds: number, eventBytes: number, work: () => unknown): LoadResult {
  const startMs = performance.now();
  const endMs = startMs + seconds * 1_000;
  let events = 0;
  let last: unknown;
  for (; performance.now() < endMs; events += BURST) for (let i = 0; i < BURST; i++) last = work();
  if (last instanceof Promise) throw new Error('a codec waits for something');
  return { events, bytes: events * eventBytes, seconds: (performance.now() - startMs) / 1_000 };
}
