/** Lines of a stream of bytes, numbered, without their ends (LF or CRLF). */
import { NaruError } from '@naru/protocol';

/** Far above what a broker takes as one event, so that it is the broker's limit that people meet. */
export const MAX_LINE_BYTES = 64 * 1024 * 1024;

const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;

export interface Line {
  /** From 1. */
  readonly number: number;
  readonly bytes: Buffer;
}

/** @throws NaruError RECORD_TOO_LARGE at a line beyond {@link MAX_LINE_BYTES} */
export async function* readLines(source: AsyncIterable<Buffer>, maxBytes = MAX_LINE_BYTES): AsyncGenerator<Line, void> {
  let number = 1;
  let begun: Buffer[] = [];
  let begunBytes = 0;
  for await (const chunk of source) {
    let start = 0;
    for (let end = chunk.indexOf(LINE_FEED); end >= 0; end = chunk.indexOf(LINE_FEED, start)) {
      const rest = chunk.subarray(start, end);
      yield { number, bytes: lineOf(begun, rest) };
      begun = [];
      begunBytes = 0;
      number += 1;
      start = end + 1;
    }
    if (start === chunk.length) continue;
    begun.push(chunk.subarray(start));
    begunBytes += chunk.length - start;
    if (begunBytes > maxBytes)
      throw new NaruError('RECORD_TOO_LARGE', `line ${number} has more than ${maxBytes} bytes`);
  }
  if (begunBytes > 0) yield { number, bytes: lineOf(begun, Buffer.alloc(0)) };
}

function lineOf(begun: readonly Buffer[], rest: Buffer): Buffer {
  const whole = begun.length === 0 ? rest : Buffer.concat([...begun, rest]);
  return whole.at(-1) === CARRIAGE_RETURN ? whole.subarray(0, -1) : whole;
}
