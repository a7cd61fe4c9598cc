/** How HTTP/2 connections end: for errors of which kind, in order, and when either side just goes. */
import { VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { turns } from '../../runtime/settling.ts';
import {
  ERROR_CODE,
  FLAG,
  FRAME,
  frame,
  PREFACE,
  rstStreamFrame,
  SETTING,
  settingsFrame,
  windowUpdateFrame,
  type ErrorCode,
} from './frames.ts';
import { encodeHeaders } from './hpack-encoder.ts';
import type { Http2Connection } from './http2-connection.ts';
import { Loopback, type Told } from './loopback-http2.ts';
import { dataFrame, GET, POST, type RawHttp2Client } from './raw-http2-client.ts';

const NOTHING = new Uint8Array();
const { protocolError, frameSizeError, streamClosed, flowControlError, compressionError } = ERROR_CODE;
const MIB = 1024 * 1024;

let clock: VirtualClock;
let loopback: Loopback;
let client: RawHttp2Client;

beforeEach(async () => {
  clock = new VirtualClock();
  loopback = await Loopback.listen({ clock });
  client = await loopback.greeted();
});

afterEach(async () => {
  await loopback.close();
  if (clock.pendingTimers > 0) throw new Error('a farewell goes on after its connection');
});

function opened(streamId: number, endStream?: boolean): Promise<Told> {
  return loopback.opened(client, streamId, POST, endStream);
}

function zero(bytes: number): Buffer {
  return Buffer.alloc(bytes);
}

function serverSide(): Http2Connection {
  return loopback.connections.at(-1) as Http2Connection;
}

describe('an error of the connection', () => {
  const block = encodeHeaders(GET);
  const head = (flags: number, streamId: number, payload: Uint8Array = block): Buffer =>
    frame(FRAME.headers, flags, streamId, payload);
  const { endHeaders, padded, priority, ack } = FLAG;

  it.each([
    ['DATA of no stream', protocolError, dataFrame(0, 'x')],
    ['DATA of a stream that was never opened', protocolError, dataFrame(5, 'x')],
    ['DATA of a stream that only a server opens', protocolError, dataFrame(2, 'x')],
    ['DATA larger than was allowed', frameSizeError, dataFrame(1, Buffer.alloc(32 * 1024 + 1))],
    ['DATA with more padding than bytes', protocolError, frame(FRAME.data, padded, 1, Buffer.of(1))],
    ['HEADERS of no stream', protocolError, head(endHeaders, 0)],
    ['HEADERS of a stream that only a server opens', protocolError, head(endHeaders, 2)],
    ['HEADERS with more padding than bytes', protocolError, head(endHeaders | padded, 1, Buffer.of(2, 0))],
    ['HEADERS without room for their padding', protocolError, head(endHeaders | padded, 1, NOTHING)],
    ['HEADERS without room for their priority', protocolError, head(endHeaders | priority, 1, zero(4))],
    ['HEADERS that depend on themselves', protocolError, head(endHeaders | priority, 1, Buffer.of(0, 0, 0, 1, 0))],
    ['HEADERS that are no HPACK', compressionError, head(endHeaders, 1, Buffer.of(0x80))],
    ['HEADERS that refer to nothing', compressionError, head(endHeaders, 1, Buffer.of(0xff, 0x7f))],
    ['a table larger than was allowed', compressionError, head(endHeaders, 1, Buffer.of(0x3f, 0xe2, 0x1f))],
    ['CONTINUATION of nothing', protocolError, frame(FRAME.continuation, endHeaders, 1, block)],
    ['another frame in a header block', protocolError, Buffer.concat([head(0, 1), frame(FRAME.ping, 0, 0, zero(8))])],
    ['an unknown frame in a header block', protocolError, Buffer.concat([head(0, 1), frame(0xbe, 0, 1, zero(8))])],
    ['DATA in a header block', protocolError, Buffer.concat([head(0, 1), dataFrame(1, 'x')])],
    ['HEADERS in a header block', protocolError, Buffer.concat([head(0, 1), head(endHeaders, 1)])],
    [
      'CONTINUATION of another stream',
      protocolError,
      Buffer.concat([head(0, 1), frame(FRAME.continuation, endHeaders, 3, block)]),
    ],
    ['PRIORITY of no stream', protocolError, frame(FRAME.priority, 0, 0, zero(5))],
    ['RST_STREAM of no stream', protocolError, rstStreamFrame(0, ERROR_CODE.cancel)],
    ['RST_STREAM of a stream that was never opened', protocolError, rstStreamFrame(7, ERROR_CODE.cancel)],
    ['RST_STREAM of three bytes', frameSizeError, frame(FRAME.rstStream, 0, 1, zero(3))],
    ['SETTINGS of a stream', protocolError, frame(FRAME.settings, 0, 1, NOTHING)],
    ['SETTINGS that are cut off', frameSizeError, frame(FRAME.settings, 0, 0, zero(5))],
    ['an acknowledgement with settings', frameSizeError, frame(FRAME.settings, ack, 0, zero(6))],
    ['ENABLE_PUSH of 2', protocolError, settingsFrame([[SETTING.enablePush, 2]])],
    ['MAX_FRAME_SIZE of 16383', protocolError, settingsFrame([[SETTING.maxFrameSize, 16_383]])],
    ['MAX_FRAME_SIZE of 2^24', protocolError, settingsFrame([[SETTING.maxFrameSize, 2 ** 24]])],
    ['INITIAL_WINDOW_SIZE of 2^31', flowControlError, settingsFrame([[SETTING.initialWindowSize, 2 ** 31]])],
    ['PUSH_PROMISE', protocolError, frame(FRAME.pushPromise, endHeaders, 1, zero(8))],
    ['PING of a stream', protocolError, frame(FRAME.ping, 0, 1, zero(8))],
    ['PING of seven bytes', frameSizeError, frame(FRAME.ping, 0, 0, zero(7))],
    ['GOAWAY of a stream', protocolError, frame(FRAME.goaway, 0, 1, zero(8))],
    ['GOAWAY of seven bytes', frameSizeError, frame(FRAME.goaway, 0, 0, zero(7))],
    ['WINDOW_UPDATE of three bytes', frameSizeError, frame(FRAME.windowUpdate, 0, 0, zero(3))],
    ['WINDOW_UPDATE by nothing', protocolError, windowUpdateFrame(0, 0)],
    ['WINDOW_UPDATE beyond what there can be', flowControlError, windowUpdateFrame(0, 2 ** 31 - 1)],
    ['WINDOW_UPDATE of a stream that was never opened', protocolError, windowUpdateFrame(9, 1)],
    ['another preface', frameSizeError, PREFACE],
  ] as [string, ErrorCode, Uint8Array][])('is %s', async (_what, code, bytes) => {
    const isOfOne = !(bytes[3] === FRAME.headers);
    const told = isOfOne ? await opened(1) : null;
    client.write(bytes);
    expect(await client.takeFarewell()).toMatchObject({ code, lastStreamId: told === null ? 0 : 1 });
    expect(client.hasEnded).toBe(true);
    expect(told?.closes ?? 1).toBe(1);
    expect(loopback.reasons).toHaveLength(1);
    while (loopback.closedConnections === 0) await turns(1);
  });

  it('is HEADERS of a stream that is over', async () => {
    const { stream } = await opened(1, true);
    stream.respond(204, []);
    stream.end();
    await client.settle();
    client.headers(1, GET, true);
    expect(await client.takeFarewell()).toMatchObject({ code: streamClosed, lastStreamId: 1 });
  });

  it('is HEADERS of a stream before the last one', async () => {
    await opened(5);
    client.headers(3, GET, true);
    expect(await client.takeFarewell()).toMatchObject({ code: streamClosed, lastStreamId: 5 });
  });

  it('is a first frame other than SETTINGS, and an acknowledgement of settings is none', async () => {
    const first = await loopback.connect();
    first.write(PREFACE, frame(FRAME.ping, 0, 0, zero(8)));
    expect((await first.takeFarewell()).code).toBe(protocolError);
    const second = await loopback.connect();
    second.write(PREFACE, frame(FRAME.settings, ack, 0, NOTHING));
    await expect(second.settle()).rejects.toThrow('the connection was closed');
    expect((await second.takeFarewell()).code).toBe(protocolError);
  });

  it('is anything but the preface', async () => {
    const other = await loopback.connect();
    other.write(Buffer.from('PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n'));
    expect((await other.takeFarewell()).code).toBe(protocolError);
  });

  it('leaves other connections alone', async () => {
    const other = await loopback.greeted();
    client.write(frame(FRAME.ping, 0, 1, zero(8)));
    await client.takeFarewell();
    await other.settle();
    expect([client.isClosed, other.isClosed]).toEqual([true, false]);
  });

  it('has what was answered before sent before, and nothing of what comes behind it heard', async () => {
    const told = await opened(1);
    client.write(frame(FRAME.ping, 0, 0, Buffer.from('answered')), frame(FRAME.ping, 0, 1, zero(8)), dataFrame(1, 'x'));
    await client.takeFarewell();
    expect(client.waiting(FRAME.ping).map(({ payload }) => String(payload))).toEqual(['answered']);
    expect(told.body).toBe('');
  });

  it('closes the connection of a client that does not go', async () => {
    client.stopReading();
    client.write(frame(FRAME.ping, 0, 1, zero(8)));
    while (loopback.reasons.length === 0) await turns(1);
    await turns(10);
    expect(loopback.closedConnections).toBe(0);
    clock.advance(1_000);
    while (loopback.closedConnections === 0) await turns(1);
  });
});

describe('a connection that is to close', () => {
  it('says so, and closes at once when nothing is open', async () => {
    serverSide().close();
    serverSide().close();
    expect(await client.takeFarewell()).toEqual({ lastStreamId: 0, code: ERROR_CODE.noError, reason: '' });
    expect(client.hasEnded).toBe(true);
    expect(client.waiting(FRAME.goaway)).toEqual([]);
  });

  it('waits for what is open, in both directions', async () => {
    const told = await opened(1);
    serverSide().close();
    expect((await client.takeFrame(FRAME.goaway)).payload.readUInt32BE(0)).toBe(1);
    client.data(1, 'still ');
    told.stream.respond(200, []);
    await client.settle();
    client.data(1, 'heard', true);
    await client.settle();
    expect([told.body, told.ends, client.hasEnded]).toEqual(['still heard', 1, false]);
    told.stream.write([Buffer.alloc(MIB, 'a')]);
    told.stream.end([['a', 'b']]);
    client.widen(0, MIB);
    client.widen(1, MIB);
    await client.takeHeaders(1);
    expect((await client.takeData(1, MIB)).length).toBe(MIB);
    expect((await client.takeHeaders(1)).endStream).toBe(true);
    await client.closed;
    expect(client.hasEnded).toBe(true);
  });

  it('takes no new requests, and ignores what comes of them: the client did not know yet', async () => {
    const told = await opened(1, true);
    serverSide().close();
    client.headers(3, POST);
    client.data(3, 'x'.repeat(10_000));
    client.widen(3, 100);
    client.headers(3, [['a', 'b']], true);
    client.headers(5, POST);
    client.write(rstStreamFrame(5, ERROR_CODE.cancel));
    await client.settle();
    expect([...loopback.streams.keys()]).toEqual([1]);
    told.stream.respond(200, []);
    told.stream.end();
    expect((await client.takeHeaders(1)).fields.get(':status')).toBe('200');
    await client.closed;
    expect(client.waiting(FRAME.goaway)).toHaveLength(1);
  });

  it('does not take back what it said of requests that it takes', async () => {
    await opened(1);
    serverSide().close();
    expect((await client.takeFrame(FRAME.goaway)).payload.readUInt32BE(0)).toBe(1);
    client.headers(3, POST);
    client.write(frame(FRAME.ping, 0, 1, zero(8)));
    // It may only become less (RFC 9113, 6.8).
    expect(await client.takeFarewell()).toMatchObject({ code: protocolError, lastStreamId: 1 });
  });

  it('says nothing more once it has ended, whatever the client still asks', async () => {
    const told = await opened(1, true);
    client.stopReading();
    serverSide().close();
    told.stream.respond(200, []);
    told.stream.write([Buffer.alloc(10_000)]);
    told.stream.end();
    while (told.closes === 0) await turns(1);
    client.write(frame(FRAME.ping, 0, 0, zero(8)), settingsFrame([]), frame(FRAME.priority, 0, 1, zero(5)));
    await turns(20);
    expect(loopback.lateWrites).toBe(0);
    client.startReading();
    await client.takeHeaders(1);
    expect((await client.takeData(1, 10_000)).length).toBe(10_000);
    await client.closed;
    expect(client.hasEnded).toBe(true);
  });

  it('closes when the client breaks off what is open', async () => {
    const told = await opened(1);
    serverSide().close();
    client.write(rstStreamFrame(1, ERROR_CODE.cancel));
    await client.closed;
    expect([told.closes, client.hasEnded]).toEqual([1, true]);
  });
});

describe('a client that just goes', () => {
  it('ends all of its streams, once each', async () => {
    const all = [await opened(1), await opened(3, true), await opened(5)];
    client.destroy();
    while (loopback.closedConnections === 0) await turns(1);
    expect(all.map(({ closes }) => closes)).toEqual([1, 1, 1]);
    for (const { stream } of all) {
      stream.respond(200, []);
      stream.write([Buffer.of(1)]);
      stream.end();
      stream.reset(ERROR_CODE.cancel);
    }
  });

  it('and says in order that it sends nothing more ends them too', async () => {
    const told = await opened(1);
    told.stream.respond(200, []);
    told.stream.write([Buffer.alloc(MIB)]);
    await client.takeData(1, 65_535);
    client.halfClose();
    await client.closed;
    while (loopback.closedConnections === 0) await turns(1);
    expect(told.closes).toBe(1);
  });
});
