/** A client's bytes as frames: however they are cut, whatever becomes of their memory, and what is no frame. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameParser, type FrameListener } from './frame-parser.ts';
import { ERROR_CODE, FLAG, FRAME, frame, Http2ConnectionError, PREFACE, type ErrorCode } from './frames.ts';
import { dataFrame } from './raw-http2-client.ts';

const MAX_DATA_BYTES = 20_000;
const MAX_OTHER_BYTES = 16_384;

/** A frame as the listener is told of it. */
interface Seen {
  readonly type: number;
  readonly streamId: number;
  readonly flags: number;
  content: string;
  flowBytes: number;
}

/** Puts the parts of a frame together; keeps none of their memory. */
class Collector implements FrameListener {
  readonly seen: Seen[] = [];
  #open: Seen | null = null;

  onData(streamId: number, part: Uint8Array, flowBytes: number, isLast: boolean, endStream: boolean): void {
    this.#open ??= { type: FRAME.data, streamId, flags: 0, content: '', flowBytes: 0 };
    if (this.#open.streamId !== streamId) throw new Error('a frame has parts of two streams');
    if (!isLast && flowBytes === 0) throw new Error('a part is nothing');
    this.#open.content += Buffer.from(part).toString('hex');
    this.#open.flowBytes += flowBytes;
    if (!isLast && endStream) throw new Error('a stream ends within a frame');
    if (!isLast) return;
    this.seen.push({ ...this.#open, flags: endStream ? FLAG.endStream : 0 });
    this.#open = null;
  }

  onFrame(type: number, flags: number, streamId: number, payload: Buffer): void {
    if (this.#open !== null) throw new Error('a frame of DATA did not end');
    this.seen.push({ type, streamId, flags, content: payload.toString('hex'), flowBytes: 0 });
  }
}

interface SentFrame {
  readonly bytes: Uint8Array;
  readonly seen: Seen;
}

const streamIds = fc.oneof(fc.nat(5), fc.constant(2 ** 31 - 1));
const contents = fc.oneof(fc.uint8Array({ maxLength: 60 }), fc.uint8Array({ minLength: 3_000, maxLength: 3_100 }));

const dataFrames = fc
  .tuple(streamIds, contents, fc.boolean(), fc.option(fc.nat(255), { nil: undefined }))
  .map(([streamId, content, endStream, padding]): SentFrame => {
    const flowBytes = content.length + (padding === undefined ? 0 : 1 + padding);
    const seen = {
      type: FRAME.data,
      streamId,
      flags: endStream ? FLAG.endStream : 0,
      content: hex(content),
      flowBytes,
    };
    return { bytes: dataFrame(streamId, content, endStream, padding), seen };
  });

const otherFrames = fc
  .tuple(fc.integer({ min: 1, max: 255 }), fc.nat(255), streamIds, contents)
  .map(([type, flags, streamId, content]): SentFrame => {
    const seen = { type, streamId, flags, content: hex(content), flowBytes: 0 };
    return { bytes: frame(type, flags, streamId, content), seen };
  });

const connections = fc.array(fc.oneof(dataFrames, otherFrames), { maxLength: 12 });
const cuts = fc.infiniteStream(fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 4_000 })));

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function bytesOf(sent: readonly SentFrame[]): Buffer {
  return Buffer.concat([PREFACE, ...sent.map(({ bytes }) => bytes)]);
}

/** Past the preface. */
function begun(listener: FrameListener = new Collector()): FrameParser {
  const parser = new FrameParser(listener, MAX_DATA_BYTES);
  parser.push(PREFACE);
  return parser;
}

function codeOf(action: () => void): ErrorCode | null {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(Http2ConnectionError);
    return (error as Http2ConnectionError).code;
  }
  return null;
}

/** Only what a frame begins with. */
function headOf(type: number, length: number, flags = 0): Buffer {
  return Buffer.from([length >>> 16, (length >>> 8) & 0xff, length & 0xff, type, flags, 0, 0, 0, 1]);
}

describe('a frame parser', () => {
  it('gives the frames that were sent, however they are cut on the way', () => {
    fc.assert(
      fc.property(connections, cuts, (sent, sizes) => {
        const bytes = bytesOf(sent);
        const collector = new Collector();
        const parser = new FrameParser(collector, MAX_DATA_BYTES);
        for (let at = 0; at < bytes.length;) {
          const size = sizes.next().value as number;
          parser.push(bytes.subarray(at, at + size));
          at += size;
        }
        expect(collector.seen).toEqual(sent.map(({ seen }) => seen));
      }),
    );
  });

  it('gives them also when each chunk comes in the same memory, which is overwritten after each', () => {
    const memory = Buffer.alloc(4_000);
    fc.assert(
      fc.property(connections, cuts, (sent, sizes) => {
        const bytes = bytesOf(sent);
        const collector = new Collector();
        const parser = new FrameParser(collector, MAX_DATA_BYTES);
        for (let at = 0; at < bytes.length;) {
          const size = Math.min(sizes.next().value as number, bytes.length - at);
          bytes.copy(memory, 0, at, at + size);
          parser.push(memory.subarray(0, size));
          memory.fill(0xff);
          at += size;
        }
        expect(collector.seen).toEqual(sent.map(({ seen }) => seen));
      }),
    );
  });

  it('gives them byte by byte', () => {
    const sent = fc.sample(connections, { numRuns: 5, seed: 9113 }).flat();
    const collector = new Collector();
    const parser = new FrameParser(collector, MAX_DATA_BYTES);
    for (const byte of bytesOf(sent)) parser.push(Buffer.of(byte));
    expect(collector.seen).toEqual(sent.map(({ seen }) => seen));
  });

  it('takes a chunk without bytes for nothing', () => {
    const collector = new Collector();
    const parser = new FrameParser(collector, MAX_DATA_BYTES);
    const bytes = bytesOf([{ bytes: dataFrame(1, 'abc', true, 3), seen: null as never }]);
    for (const byte of bytes) {
      parser.push(Buffer.alloc(0));
      parser.push(Buffer.of(byte));
    }
    expect(collector.seen).toMatchObject([{ content: hex(Buffer.from('abc')), flowBytes: 7 }]);
  });

  it('does not copy what it gives of DATA, nor a frame that came in one piece', () => {
    const memory: ArrayBufferLike[] = [];
    const parser = begun({
      onData: (_streamId, part) => memory.push(part.buffer),
      onFrame: (_type, _flags, _streamId, payload) => memory.push(payload.buffer),
    });
    const chunk = Buffer.concat([dataFrame(1, 'x'.repeat(100)), frame(FRAME.ping, 0, 0, Buffer.alloc(8))]);
    parser.push(chunk);
    expect(memory).toEqual([chunk.buffer, chunk.buffer]);
  });

  it('ignores the bit that is reserved in the id of a stream', () => {
    const collector = new Collector();
    const bytes = frame(FRAME.ping, 0, 5, Buffer.alloc(8));
    bytes[5] = 0x80;
    begun(collector).push(bytes);
    expect(collector.seen).toMatchObject([{ streamId: 5 }]);
  });
});

describe('what is no HTTP/2', () => {
  it.each([0, 1, 13, 20, PREFACE.length - 1])('is found at byte %i of the preface', (wrong) => {
    const bytes = Buffer.from(PREFACE);
    bytes[wrong] = 0x21;
    expect(codeOf(() => new FrameParser(new Collector(), MAX_DATA_BYTES).push(bytes))).toBe(ERROR_CODE.protocolError);
    const parser = new FrameParser(new Collector(), MAX_DATA_BYTES);
    parser.push(bytes.subarray(0, wrong));
    expect(codeOf(() => parser.push(bytes.subarray(wrong, wrong + 1)))).toBe(ERROR_CODE.protocolError);
  });

  it('is a frame of more bytes than were allowed, of which the head is enough', () => {
    expect(codeOf(() => begun().push(headOf(FRAME.data, MAX_DATA_BYTES)))).toBeNull();
    expect(codeOf(() => begun().push(headOf(FRAME.data, MAX_DATA_BYTES + 1)))).toBe(ERROR_CODE.frameSizeError);
    for (const type of [FRAME.headers, FRAME.settings, FRAME.continuation, 0xbe]) {
      expect(codeOf(() => begun().push(headOf(type, MAX_OTHER_BYTES)))).toBeNull();
      expect(codeOf(() => begun().push(headOf(type, 2 ** 24 - 1)))).toBe(ERROR_CODE.frameSizeError);
    }
  });

  it('is padding for which there is no room', () => {
    expect(codeOf(() => begun().push(headOf(FRAME.data, 0, FLAG.padded)))).toBe(ERROR_CODE.frameSizeError);
    const padded = (length: number, padding: number): Buffer =>
      Buffer.concat([headOf(FRAME.data, length, FLAG.padded), Buffer.of(padding)]);
    expect(codeOf(() => begun().push(padded(10, 9)))).toBeNull();
    expect(codeOf(() => begun().push(padded(10, 10)))).toBe(ERROR_CODE.protocolError);
    expect(codeOf(() => begun().push(padded(1, 0)))).toBeNull();
    expect(codeOf(() => begun().push(padded(1, 255)))).toBe(ERROR_CODE.protocolError);
  });

  it('is what the listener does not take: its error comes through', () => {
    const error = new Http2ConnectionError(ERROR_CODE.internalError, 'not this one');
    const throwing = (): never => {
      throw error;
    };
    const parser = begun({ onData: throwing, onFrame: throwing });
    expect(() => parser.push(Buffer.from(dataFrame(1, 'x')))).toThrow(error);
    expect(() => begun({ onData: throwing, onFrame: throwing }).push(frame(9, 0, 1, Buffer.alloc(1)))).toThrow(error);
  });
});
