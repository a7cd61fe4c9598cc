/** HTTP/2 connections that go on: how they begin, requests and answers, and errors that end no more than one request. */
import { VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { turns } from '../../runtime/settling.ts';
import {
  ERROR_CODE,
  FLAG,
  FRAME,
  frame,
  goawayFrame,
  headersFrames,
  PREFACE,
  rstStreamFrame,
  SETTING,
  settingsFrame,
} from './frames.ts';
import type { HeaderField } from './hpack-decoder.ts';
import { encodeHeaders } from './hpack-encoder.ts';
import { Loopback, SMALL_LIMITS, type Told } from './loopback-http2.ts';
import { dataFrame, GET, POST, type RawHttp2Client } from './raw-http2-client.ts';

const NOTHING = new Uint8Array();
const PROTOCOL_ERROR = ERROR_CODE.protocolError;

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
  if (loopback.reasons.length > 0) throw new Error(`a connection was closed: ${loopback.reasons[0]}`);
});

function opened(streamId: number, fields?: readonly HeaderField[], endStream?: boolean): Promise<Told> {
  return loopback.opened(client, streamId, fields, endStream);
}

/** The connection still serves. */
async function checkServes(streamId: number): Promise<void> {
  const { stream } = await opened(streamId, GET, true);
  stream.respond(204, []);
  stream.end();
  expect((await client.takeHeaders(streamId)).fields.get(':status')).toBe('204');
  expect((await client.takeFrame(FRAME.data, streamId)).flags).toBe(FLAG.endStream);
}

describe('a connection', () => {
  it('begins with settings and a window for all streams, before the client has said anything', async () => {
    const other = await loopback.connect();
    const { payload } = await other.takeFrame(FRAME.settings, 0);
    const settings = new Map<number, number>();
    for (let at = 0; at < payload.length; at += 6) settings.set(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
    expect(settings).toEqual(
      new Map<number, number>([
        [SETTING.maxConcurrentStreams, SMALL_LIMITS.maxStreams],
        [SETTING.initialWindowSize, SMALL_LIMITS.streamWindowBytes],
        [SETTING.maxFrameSize, SMALL_LIMITS.maxFrameBytes],
        [SETTING.maxHeaderListSize, SMALL_LIMITS.maxHeaderBytes],
      ]),
    );
    const window = await other.takeFrame(FRAME.windowUpdate, 0);
    expect(window.payload.readUInt32BE(0)).toBe(SMALL_LIMITS.connectionWindowBytes - 65_535);
  });

  it('acknowledges settings, each of them, and ignores those that it does not know', async () => {
    client.write(settingsFrame([[0xfff0, 0xffff_ffff]]), settingsFrame([]), settingsFrame([[SETTING.enablePush, 0]]));
    await client.settle();
    expect(client.waiting(FRAME.settings).map(({ flags, payload }) => [flags, payload.length])).toEqual([
      [FLAG.ack, 0],
      [FLAG.ack, 0],
      [FLAG.ack, 0],
    ]);
  });

  it('answers a ping with its bytes, and not an answer to one', async () => {
    client.write(frame(FRAME.ping, FLAG.ack, 0, Buffer.from('ignored!')));
    client.write(frame(FRAME.ping, 0, 0, Buffer.from('12345678')));
    const { flags, payload } = await client.takeFrame(FRAME.ping);
    expect([flags, String(payload)]).toEqual([FLAG.ack, '12345678']);
    await client.settle();
    expect(client.inbox).toEqual([]);
  });

  it('ignores frames that it does not know, priorities, and that the client is going', async () => {
    client.write(frame(0xbe, 0xff, 0, Buffer.alloc(100)), frame(0xbe, 0xff, 7, NOTHING));
    client.write(frame(FRAME.priority, 0, 9, Buffer.from([0, 0, 0, 3, 16])));
    client.write(goawayFrame(0, ERROR_CODE.noError, 'going'));
    await checkServes(1);
  });

  it('may begin in pieces', async () => {
    const other = await loopback.connect();
    for (const byte of Buffer.concat([PREFACE, settingsFrame([])])) {
      other.write(Buffer.of(byte));
      await turns(1);
    }
    await other.settle();
    expect(other.waiting(FRAME.settings)).toHaveLength(2);
  });
});

describe('a request', () => {
  it('comes with its head, body and end, and is answered', async () => {
    const told = await opened(1, [...POST, ['x', 'a'], ['x', 'b']]);
    expect(told.stream.request).toMatchObject({ method: 'POST', path: '/', authority: 'localhost' });
    expect(told.stream.request.headers.get('x')).toBe('a, b');
    client.data(1, 'abc');
    client.data(1, 'def', true, 5);
    await client.settle();
    expect([told.body, told.ends, told.closes]).toEqual(['abcdef', 1, 0]);
    told.stream.respond(200, [['x', 'y']]);
    told.stream.write([Buffer.from('answer')]);
    told.stream.end();
    expect([...(await client.takeHeaders(1)).fields]).toEqual([
      [':status', '200'],
      ['x', 'y'],
    ]);
    expect(String(await client.takeData(1, 6))).toBe('answer');
    expect((await client.takeFrame(FRAME.data, 1)).flags).toBe(FLAG.endStream);
    expect(told.closes).toBe(1);
  });

  it('may have its head in many frames, with padding and a priority', async () => {
    const block = encodeHeaders([...GET, ['x', 'y'.repeat(300)]]);
    const first = Buffer.concat([Buffer.of(7), Buffer.from([0, 0, 0, 0, 9]), block.subarray(0, 10), Buffer.alloc(7)]);
    client.write(frame(FRAME.headers, FLAG.endStream | FLAG.padded | FLAG.priority, 1, first));
    for (let at = 10; at < block.length; at += 20)
      client.write(frame(FRAME.continuation, 0, 1, block.subarray(at, at + 20)));
    client.write(frame(FRAME.continuation, FLAG.endHeaders, 1, NOTHING));
    await client.settle();
    const { stream, ends } = loopback.told(1);
    expect([stream.request.headers.get('x')?.length, ends]).toEqual([300, 1]);
  });

  it('may have trailers, which end it', async () => {
    const told = await opened(1);
    client.data(1, 'abc');
    client.headers(1, [['checksum', '1']], true);
    await client.settle();
    expect([told.body, told.ends, told.closes]).toEqual(['abc', 1, 0]);
  });

  it('is told of once, when the answer was complete before it was', async () => {
    const told = await opened(1);
    told.stream.respond(200, []);
    told.stream.end([['a', 'b']]);
    await client.settle();
    expect([told.ends, told.closes]).toEqual([0, 0]);
    client.data(1, 'late', true);
    await client.settle();
    expect([told.body, told.ends, told.closes]).toEqual(['late', 1, 1]);
  });

  it('that the answering side breaks off leaves the connection, whatever still comes of it', async () => {
    const told = await opened(1);
    told.stream.reset(ERROR_CODE.internalError);
    told.stream.reset(ERROR_CODE.cancel);
    told.stream.respond(200, []);
    expect(told.stream.write([Buffer.of(1)])).toBe(true);
    client.data(1, 'x');
    client.widen(1, 5);
    client.headers(1, [['a', 'b']], true);
    expect(await client.takeReset(1)).toBe(ERROR_CODE.internalError);
    await checkServes(3);
    expect(client.inbox).toEqual([]);
    expect([told.body, told.closes]).toEqual(['', 1]);
  });

  it('that the client breaks off has nothing sent any more, also of what waits', async () => {
    const told = await opened(1);
    told.stream.respond(200, []);
    told.stream.write([Buffer.alloc(100_000)]);
    await client.takeData(1, 65_535);
    client.write(rstStreamFrame(1, ERROR_CODE.cancel));
    client.widen(0, 100_000);
    client.widen(1, 100_000);
    await client.settle();
    expect(told.closes).toBe(1);
    expect(client.waiting(FRAME.data)).toEqual([]);
    await client.takeHeaders(1);
    await checkServes(3);
  });

  it('with a head that is too large is answered with 431, and its body is not read', async () => {
    client.headers(1, [...POST, ['x', 'y'.repeat(SMALL_LIMITS.maxHeaderBytes)]]);
    const { fields } = await client.takeHeaders(1);
    expect(fields.get(':status')).toBe('431');
    client.data(1, 'unheard', true);
    expect((await client.takeFrame(FRAME.data, 1)).flags).toBe(FLAG.endStream);
    expect(loopback.streams.size).toBe(0);
    await checkServes(3);
  });

  it('with a head that is too large, in one frame as large as the settings allow, is answered with 431 too', async () => {
    const fields: HeaderField[] = [...GET, ['x', 'y'.repeat(20_000)]];
    client.write(headersFrames(1, encodeHeaders(fields), true, SMALL_LIMITS.maxFrameBytes));
    expect((await client.takeHeaders(1)).fields.get(':status')).toBe('431');
    await checkServes(3);
  });

  it('may be answered with a head and trailers of many frames', async () => {
    const { stream } = await opened(1, GET, true);
    stream.respond(200, [['x', 'a'.repeat(40_000)]]);
    stream.end([['y', 'b'.repeat(50_000)]]);
    const head = await client.takeHeaders(1);
    expect([head.fields.get('x')?.length, head.frames]).toEqual([40_000, 3]);
    const trailers = await client.takeHeaders(1);
    expect([trailers.fields.get('y')?.length, trailers.frames, trailers.endStream]).toEqual([50_000, 4, true]);
  });
});

describe('an error of a stream', () => {
  async function checkReset(code: number, streamId = 1): Promise<void> {
    expect(await client.takeReset(streamId)).toBe(code);
    await checkServes(streamId + 2);
  }

  it('is a malformed request', async () => {
    client.headers(1, [...GET, ['Upper', 'x']], true);
    await checkReset(PROTOCOL_ERROR);
    expect(loopback.streams.has(1)).toBe(false);
  });

  it('is a malformed request, of which what was on its way is ignored', async () => {
    client.headers(1, [...POST, ['Upper', 'x']]);
    client.data(1, 'x');
    client.headers(1, [['a', 'b']], true);
    await checkReset(PROTOCOL_ERROR);
    expect(client.waiting(FRAME.rstStream)).toEqual([]);
  });

  it.each([
    ['more', '4', 'abcde'],
    ['less', '4', 'abc'],
    ['nothing', '4', ''],
  ])('is a body with %s than was said', async (_what, length, body) => {
    const told = await opened(1, [...POST, ['content-length', length]]);
    client.data(1, body, true);
    await checkReset(PROTOCOL_ERROR);
    expect([told.ends, told.closes]).toEqual([0, 1]);
  });

  it('is a body that does not come although a length was said, with and without trailers', async () => {
    client.headers(1, [...POST, ['content-length', '1']], true);
    expect(await client.takeReset(1)).toBe(PROTOCOL_ERROR);
    client.headers(3, [...POST, ['content-length', '1']]);
    client.headers(3, [['a', 'b']], true);
    await checkReset(PROTOCOL_ERROR, 3);
  });

  it.each([
    ['do not end it', [['a', 'b']], false],
    ['have a field of a request', [[':path', '/']], true],
    ['are too large', [['a', 'b'.repeat(SMALL_LIMITS.maxHeaderBytes)]], true],
  ] as [string, HeaderField[], boolean][])('is trailers that %s', async (_what, fields, endStream) => {
    const told = await opened(1);
    client.headers(1, fields, endStream);
    await checkReset(PROTOCOL_ERROR);
    expect([told.ends, told.closes]).toEqual([0, 1]);
  });

  it('is DATA or HEADERS after its end', async () => {
    await opened(1, POST, true);
    client.data(1, 'x');
    expect(await client.takeReset(1)).toBe(ERROR_CODE.streamClosed);
    await opened(3, POST, true);
    client.headers(3, [['a', 'b']], true);
    await checkReset(ERROR_CODE.streamClosed, 3);
  });

  it('is DATA of one that the client broke off', async () => {
    await opened(1);
    client.write(rstStreamFrame(1, ERROR_CODE.cancel), dataFrame(1, 'x'));
    await checkReset(ERROR_CODE.streamClosed);
  });

  it('is a window that grows by nothing, or beyond what there can be', async () => {
    await opened(1);
    client.widen(1, 0);
    expect(await client.takeReset(1)).toBe(PROTOCOL_ERROR);
    await opened(3);
    client.widen(3, 2 ** 31 - 1);
    await checkReset(ERROR_CODE.flowControlError, 3);
  });

  it('is one more than may be open, which may be tried again later', async () => {
    for (const streamId of [1, 3, 5, 7]) await opened(streamId);
    client.headers(9, GET, true);
    expect(await client.takeReset(9)).toBe(ERROR_CODE.refusedStream);
    expect(loopback.streams.has(9)).toBe(false);
    client.write(rstStreamFrame(3, ERROR_CODE.cancel));
    await checkServes(11);
  });

  it('is one more than may be open, of which what was on its way is ignored', async () => {
    for (const streamId of [1, 3, 5, 7]) await opened(streamId);
    client.headers(9, POST);
    client.data(9, 'x');
    client.headers(9, [['a', 'b']], true);
    client.write(rstStreamFrame(3, ERROR_CODE.cancel));
    await checkReset(ERROR_CODE.refusedStream, 9);
    expect(client.waiting(FRAME.rstStream)).toEqual([]);
  });
});
