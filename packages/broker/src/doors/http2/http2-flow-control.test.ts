/** Windows of streams and of their connection, in both directions, and whose turn it is to send. */
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { silentLogger, type Logger } from '@naru/base';
import { VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { turns } from '../../runtime/settling.ts';
import {
  DEFAULT_WINDOW_BYTES,
  ERROR_CODE,
  FLAG,
  FRAME,
  headersFrames,
  PREFACE,
  rstStreamFrame,
  SETTING,
  settingsFrame,
} from './frames.ts';
import { encodeHeaders } from './hpack-encoder.ts';
import { Http2Connection } from './http2-connection.ts';
import type { Http2Stream } from './http2-stream.ts';
import { Loopback, SMALL_LIMITS, Told } from './loopback-http2.ts';
import { dataFrame, GET, POST, type RawHttp2Client } from './raw-http2-client.ts';

const MIB = 1024 * 1024;
const MAX_WINDOW = 2 ** 31 - 1;
const { streamWindowBytes, connectionWindowBytes } = SMALL_LIMITS;
const PART_BYTES = 10_000;

let loopback: Loopback;

beforeEach(async () => {
  loopback = await Loopback.listen({ clock: new VirtualClock() });
});

afterEach(() => loopback.close());

function initialWindow(bytes: number): [number, number][] {
  return [[SETTING.initialWindowSize, bytes]];
}

/** Repeats after 251 bytes, so that what is lost or doubled shows. */
function pattern(length: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, index) => index % 251));
}

/** Opens a stream that gets its head at once; the client has sent all. */
async function answering(client: RawHttp2Client, streamId: number): Promise<Told> {
  const told = await loopback.opened(client, streamId, GET, true);
  told.stream.respond(200, []);
  await client.takeHeaders(streamId);
  return told;
}

/** What came of a stream's DATA and was not taken, in frames. */
async function sizes(client: RawHttp2Client, streamId: number): Promise<number[]> {
  await client.settle();
  const frames = client.waiting(FRAME.data, streamId);
  for (const one of frames) client.inbox.splice(client.inbox.indexOf(one), 1);
  return frames.map(({ payload }) => payload.length);
}

describe('what is sent', () => {
  it('waits for a window of nothing, but for heads and ends; then goes byte by byte', async () => {
    const client = await loopback.greeted(initialWindow(0));
    const { stream } = await answering(client, 1);
    stream.write([Buffer.from('abc')]);
    stream.end([['a', 'b']]);
    expect(await sizes(client, 1)).toEqual([]);
    for (const byte of 'abc') {
      client.widen(1, 1);
      expect(String((await client.takeFrame(FRAME.data, 1)).payload)).toBe(byte);
    }
    expect((await client.takeHeaders(1)).endStream).toBe(true);
    const empty = await answering(client, 3);
    empty.stream.end();
    expect((await client.takeFrame(FRAME.data, 3)).flags).toBe(FLAG.endStream);
  });

  it('fits a window of one byte', async () => {
    const client = await loopback.greeted(initialWindow(1));
    for (const streamId of [1, 3]) (await answering(client, streamId)).stream.write([Buffer.from('xy')]);
    expect([await sizes(client, 1), await sizes(client, 3)]).toEqual([[1], [1]]);
  });

  it('follows the first window of streams when that changes, also of the ones that are open', async () => {
    const client = await loopback.greeted(initialWindow(100));
    const { stream } = await answering(client, 1);
    stream.write([Buffer.alloc(2_000)]);
    expect(await sizes(client, 1)).toEqual([100]);
    client.write(settingsFrame(initialWindow(250)));
    expect(await sizes(client, 1)).toEqual([150]);
    // Below nothing: -150.
    client.write(settingsFrame(initialWindow(100)));
    client.widen(1, 150);
    expect(await sizes(client, 1)).toEqual([]);
    client.widen(1, 7);
    expect(await sizes(client, 1)).toEqual([7]);
    client.write(settingsFrame(initialWindow(0)));
    client.write(settingsFrame(initialWindow(99)));
    expect(await sizes(client, 1)).toEqual([]);
    client.write(settingsFrame([...initialWindow(0), ...initialWindow(110)]));
    expect(await sizes(client, 1)).toEqual([10]);
  });

  it('waits for the window of the connection, which an end does not', async () => {
    const client = await loopback.greeted(initialWindow(MIB));
    const [greedy, modest, last] = [await answering(client, 1), await answering(client, 3), await answering(client, 5)];
    greedy.stream.write([Buffer.alloc(DEFAULT_WINDOW_BYTES + 10)]);
    expect((await sizes(client, 1)).reduce((sum, size) => sum + size)).toBe(DEFAULT_WINDOW_BYTES);
    modest.stream.end([['grpc-status', '0']]);
    last.stream.write([Buffer.alloc(10)]);
    last.stream.end();
    expect((await client.takeHeaders(3)).endStream).toBe(true);
    expect(await sizes(client, 5)).toEqual([]);
    client.widen(0, 15);
    expect([await sizes(client, 1), await sizes(client, 5)]).toEqual([[10], [5]]);
    client.widen(0, 5);
    expect(await sizes(client, 5)).toEqual([5, 0]);
    expect([modest.closes, last.closes]).toEqual([1, 1]);
  });

  it('fits the frames that the client takes', async () => {
    const client = await loopback.greeted(initialWindow(MAX_WINDOW));
    client.widen(0, 10 * MIB);
    const { stream } = await answering(client, 1);
    stream.write([pattern(50_000)]);
    expect(await sizes(client, 1)).toEqual([16_384, 16_384, 16_384, 848]);
    client.write(settingsFrame([[SETTING.maxFrameSize, 20_000]]));
    await client.settle();
    stream.write([pattern(30_000)]);
    expect(await sizes(client, 1)).toEqual([20_000, 10_000]);
    client.write(settingsFrame([[SETTING.maxFrameSize, 2 ** 24 - 1]]));
    await client.settle();
    stream.write([pattern(3 * MIB)]);
    expect(Math.max(...(await sizes(client, 1)))).toBeLessThanOrEqual(256 * 1024);
  });

  it('is the same bytes in the same order, however they were written', async () => {
    const client = await loopback.greeted(initialWindow(MAX_WINDOW));
    client.widen(0, 10 * MIB);
    const { stream } = await answering(client, 1);
    const bytes = pattern(300_000);
    for (let at = 0, size = 1; at < bytes.length; at += size, size = (size * 7 + 3) % 9_000) {
      const half = Math.min(bytes.length, at + Math.ceil(size / 2));
      stream.write([bytes.subarray(at, half), bytes.subarray(half, at + size)]);
      if (size % 5 === 0) await turns(1);
    }
    expect((await client.takeData(1, bytes.length)).equals(bytes)).toBe(true);
  });

  it('is of each stream in turn', async () => {
    const client = await loopback.greeted(initialWindow(MAX_WINDOW));
    const streamIds = [1, 3, 5];
    for (const streamId of streamIds) await answering(client, streamId);
    for (const streamId of streamIds) loopback.told(streamId).stream.write([Buffer.alloc(400_000)]);
    client.widen(0, 2 * MIB);
    const sent = new Map<number, number>(streamIds.map((id) => [id, 0]));
    for (let left = 1_200_000; left > 0;) {
      const { streamId, payload } = await client.takeFrame(FRAME.data);
      left -= payload.length;
      sent.set(streamId, (sent.get(streamId) as number) + payload.length);
      expect(Math.max(...sent.values()) - Math.min(...sent.values())).toBeLessThanOrEqual(2 * 16_384);
    }
  });

  it('waits with its stream when the client does not read, whatever its windows say', async () => {
    const client = await loopback.greeted([...initialWindow(MAX_WINDOW), [SETTING.maxFrameSize, 2 ** 24 - 1]]);
    client.widen(0, 2 ** 30);
    const told = await answering(client, 1);
    client.stopReading();
    const bytes = pattern(40 * MIB);
    expect(told.stream.write([bytes])).toBe(false);
    await turns(100);
    expect(loopback.unsentBytes).toBeGreaterThan(0);
    expect(loopback.unsentBytes).toBeLessThan(MIB);
    expect(told.drains).toBe(0);
    client.startReading();
    expect((await client.takeData(1, bytes.length)).equals(bytes)).toBe(true);
    expect(told.drains).toBe(1);
  });

  it('ends the connection when a change of windows makes one too large', async () => {
    const client = await loopback.greeted();
    await answering(client, 1);
    client.widen(1, MAX_WINDOW - DEFAULT_WINDOW_BYTES);
    await client.settle();
    client.write(settingsFrame(initialWindow(DEFAULT_WINDOW_BYTES + 1)));
    expect((await client.takeFarewell()).code).toBe(ERROR_CODE.flowControlError);
  });
});

describe('what is received', () => {
  function receiving(client: RawHttp2Client, streamId: number): Promise<Told> {
    return loopback.opened(client, streamId);
  }

  function sendParts(client: RawHttp2Client, streamId: number, bytes: number): void {
    for (let left = bytes; left > 0; left -= PART_BYTES)
      client.data(streamId, Buffer.alloc(Math.min(left, PART_BYTES)));
  }

  it('is given back in large steps, to the stream and to the connection', async () => {
    const client = await loopback.greeted();
    await receiving(client, 1);
    let [sent, ofStream, ofConnection, updates] = [0, 0, 0, 0];
    for (let part = 0; part < 100; part++) {
      client.data(1, Buffer.alloc(PART_BYTES));
      sent += PART_BYTES;
      await client.settle();
      updates += client.waiting(FRAME.windowUpdate).length;
      ofStream += client.takeCredit(1);
      ofConnection += client.takeCredit(0);
      // Never more than was taken, never less than half of the window.
      expect(ofStream).toBeLessThanOrEqual(sent);
      expect(streamWindowBytes + ofStream - sent).toBeGreaterThanOrEqual(streamWindowBytes / 2);
      expect(ofConnection).toBeLessThanOrEqual(sent);
      expect(connectionWindowBytes + ofConnection - sent).toBeGreaterThanOrEqual(connectionWindowBytes / 2);
    }
    expect(updates).toBeLessThanOrEqual(30);
  });

  it('counts padding, which is given back too', async () => {
    const client = await loopback.greeted();
    const told = await receiving(client, 1);
    for (let part = 0; part < 1_000; part++) {
      client.data(1, 'x', false, 255);
      if (part % 100 === 99) await client.settle();
    }
    expect(told.body.length).toBe(1_000);
    const [ofStream, ofConnection] = [client.takeCredit(1), client.takeCredit(0)];
    expect(ofStream).toBeGreaterThan(257_000 - streamWindowBytes / 2 - 1);
    expect(ofConnection).toBeGreaterThan(257_000 - connectionWindowBytes / 2 - 1);
  });

  it('is not given back to a stream that pauses, until it goes on', async () => {
    const client = await loopback.greeted();
    const told = await receiving(client, 1);
    told.stream.pause();
    sendParts(client, 1, streamWindowBytes);
    await client.settle();
    expect(told.body.length).toBe(streamWindowBytes);
    expect(client.takeCredit(1)).toBe(0);
    told.stream.resume();
    await client.settle();
    expect(client.takeCredit(1)).toBe(streamWindowBytes);
    told.stream.pause();
    sendParts(client, 1, PART_BYTES);
    client.data(1, '', true);
    await client.settle();
    told.stream.resume();
    await client.settle();
    // The client has said that it needs no more.
    expect(client.takeCredit(1)).toBe(0);
  });

  it('of streams that pause holds up the connection only when it is much, until one of them goes on or is over', async () => {
    const client = await loopback.greeted();
    const [first, second, other] = [
      await receiving(client, 1),
      await receiving(client, 3),
      await receiving(client, 5),
    ] as const;
    first.stream.pause();
    second.stream.pause();
    sendParts(client, 1, streamWindowBytes);
    await client.settle();
    expect(client.takeCredit(0)).toBe(streamWindowBytes);
    // From here on more is held than may be.
    sendParts(client, 3, streamWindowBytes / 2);
    sendParts(client, 5, streamWindowBytes / 2);
    await client.settle();
    expect(other.body.length).toBe(streamWindowBytes / 2);
    expect(client.takeCredit(0)).toBe(0);
    second.stream.resume();
    await client.settle();
    expect(client.takeCredit(0)).toBe(streamWindowBytes);
    second.stream.pause();
    sendParts(client, 3, streamWindowBytes / 2);
    sendParts(client, 5, streamWindowBytes / 2);
    await client.settle();
    expect(client.takeCredit(0)).toBe(0);
    client.write(rstStreamFrame(1, ERROR_CODE.cancel));
    await client.settle();
    expect(client.takeCredit(0)).toBe(streamWindowBytes);
  });

  it('of a stream that pauses does not hold up another', async () => {
    const client = await loopback.greeted();
    const [paused, other] = [await receiving(client, 1), await receiving(client, 3)];
    paused.stream.pause();
    sendParts(client, 1, streamWindowBytes);
    sendParts(client, 3, streamWindowBytes);
    await client.settle();
    expect(other.body.length).toBe(streamWindowBytes);
    expect(client.takeCredit(3)).toBeGreaterThanOrEqual(streamWindowBytes / 2);
    expect(client.takeCredit(0)).toBeGreaterThanOrEqual(connectionWindowBytes / 2);
  });

  it('breaks the stream when it is more than its window', async () => {
    const client = await loopback.greeted();
    const told = await receiving(client, 1);
    told.stream.pause();
    sendParts(client, 1, streamWindowBytes);
    client.data(1, 'x');
    client.data(1, 'y', true);
    expect(await client.takeReset(1)).toBe(ERROR_CODE.flowControlError);
    await client.settle();
    expect([told.body.length, told.ends, told.closes]).toEqual([streamWindowBytes, 0, 1]);
    expect(client.waiting(FRAME.rstStream)).toEqual([]);
  });

  it('breaks the stream when padding alone is more than its window', async () => {
    const client = await loopback.greeted();
    (await receiving(client, 1)).stream.pause();
    sendParts(client, 1, streamWindowBytes - 10);
    client.data(1, '', false, 10);
    expect(await client.takeReset(1)).toBe(ERROR_CODE.flowControlError);
  });

  it('is given back to the connection also when its stream is over', async () => {
    const client = await loopback.greeted();
    const told = await receiving(client, 1);
    told.stream.reset(ERROR_CODE.cancel);
    const other = await receiving(client, 3);
    client.write(rstStreamFrame(3, ERROR_CODE.cancel));
    for (const streamId of [1, 3])
      for (let part = 0; part < 20; part++) client.data(streamId, Buffer.alloc(PART_BYTES));
    await client.settle();
    expect(client.takeCredit(0)).toBe(40 * PART_BYTES);
    expect([told.body, other.body]).toEqual(['', '']);
  });
});

describe('a window of the connection', () => {
  it('is what a client may send on all streams together; more ends the connection', async () => {
    // In one chunk: what was taken of one is given back before the next.
    const socket = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() });
    const [clock, codes] = [new VirtualClock(), [] as unknown[]];
    const logger: Logger = { ...silentLogger, debug: ({ code }) => void codes.push(code) };
    const limits = {
      ...SMALL_LIMITS,
      streamWindowBytes: 400_000,
      connectionWindowBytes: 70_000,
      maxFrameBytes: 400_000,
    };
    const onStream = (stream: Http2Stream): void => void new Told(stream);
    const options = { limits, clock, timers: clock, logger, onStream, onClosed: () => {} };
    expect(new Http2Connection(socket as Socket, options).peer).toBe('');
    const head = headersFrames(1, encodeHeaders(POST), false, 1_000);
    socket.push(Buffer.concat([PREFACE, settingsFrame([]), head, dataFrame(1, Buffer.alloc(70_000))]));
    await turns(5);
    expect(codes).toEqual([]);
    socket.push(dataFrame(1, Buffer.alloc(70_001)));
    await turns(5);
    expect(codes).toEqual([ERROR_CODE.flowControlError]);
  });
});
