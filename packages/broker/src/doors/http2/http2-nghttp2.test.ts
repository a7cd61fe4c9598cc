/** Node's own client, which is nghttp2, against our side: every byte comes back, whatever its settings, and whatever it breaks off. */
import { once } from 'node:events';
import http2, { type ClientHttp2Session, type ClientHttp2Stream, type Settings } from 'node:http2';
import { VirtualClock } from '@naru/testkit';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { turns } from '../../runtime/settling.ts';
import type { Http2Limits } from './http2-connection.ts';
import type { Http2Stream } from './http2-stream.ts';
import { Loopback } from './loopback-http2.ts';
import { StreamCall } from './stream-call.ts';

const KIB = 1024;
const { NGHTTP2_CANCEL, NGHTTP2_NO_ERROR } = http2.constants;

/** As the broker's, but for windows that are often used up. */
const LIMITS: Http2Limits = {
  streamWindowBytes: 100 * KIB,
  connectionWindowBytes: 200 * KIB,
  heldBytes: 400 * KIB,
  maxFrameBytes: 64 * KIB,
  maxStreams: 100,
  maxHeaderBytes: 16 * KIB,
};

let loopback: Loopback;
let sessions: ClientHttp2Session[];
let calls: StreamCall[];

beforeEach(async () => {
  sessions = [];
  calls = [];
  loopback = await Loopback.listen({ clock: new VirtualClock(), limits: LIMITS, onStream });
});

afterEach(async () => {
  for (const session of sessions) session.destroy();
  await loopback.close();
  if (loopback.reasons.length > 0) throw new Error(`a connection was closed: ${loopback.reasons[0]}`);
});

/** Answers a body with itself; with as many bytes as the query says where there is one. */
function onStream(stream: Http2Stream): void {
  const call = new StreamCall(stream);
  calls.push(call);
  const query = stream.request.path.split('?')[1];
  const answering = query === undefined ? echo(call) : give(call, Number(query));
  answering.catch(() => {});
}

async function echo(call: StreamCall): Promise<void> {
  call.respond(200, [['content-type', 'application/octet-stream']]);
  let bytes = 0;
  for await (const part of call) {
    bytes += part.length;
    await call.write([part.subarray(0, 10), part.subarray(10)]);
  }
  call.end([['bytes', String(bytes)]]);
}

async function give(call: StreamCall, bytes: number): Promise<void> {
  call.respond(200, []);
  for (let at = 0; at < bytes && !call.isClosed; at += 10_000)
    await call.write([body(Math.min(10_000, bytes - at), at)]);
  call.end();
}

/** Bytes of which none are like those a little before. */
function body(length: number, from = 0): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, index) => ((from + index) * 7 + ((from + index) >>> 8)) % 251));
}

async function connected(settings: Settings = {}): Promise<ClientHttp2Session> {
  const session = http2.connect(`http://127.0.0.1:${loopback.port}`, { settings });
  sessions.push(session);
  session.on('error', () => {});
  await once(session, 'remoteSettings');
  return session;
}

function post(session: ClientHttp2Session, path = '/', headers = {}): ClientHttp2Stream {
  const stream = session.request({ ':method': 'POST', ':path': path, ...headers });
  stream.on('error', () => {});
  return stream;
}

async function received(stream: ClientHttp2Stream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(stream, 'close');
  return Buffer.concat(chunks);
}

/** Sends in pieces of `piece` bytes; what comes back has to be the same. */
async function checkEcho(session: ClientHttp2Session, bytes: Buffer, piece: number): Promise<void> {
  const stream = post(session);
  let trailers: http2.IncomingHttpHeaders = {};
  stream.on('trailers', (fields) => (trailers = fields));
  const answer = received(stream);
  for (let at = 0; at < bytes.length; at += piece) {
    if (!stream.write(bytes.subarray(at, at + piece))) await once(stream, 'drain');
  }
  stream.end();
  expect((await answer).equals(bytes)).toBe(true);
  expect(trailers['bytes']).toBe(String(bytes.length));
  expect(stream.rstCode).toBe(NGHTTP2_NO_ERROR);
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await turns(1);
}

describe('node:http2 as a client', () => {
  it.each([
    ['its own settings', {}],
    ['no table for headers', { headerTableSize: 0 }],
    ['a large table for headers', { headerTableSize: 65_536 }],
    ['a window of 100 bytes', { initialWindowSize: 100 }],
    ['a large window', { initialWindowSize: 2 ** 31 - 1 }],
    ['large frames', { maxFrameSize: 2 ** 24 - 1, initialWindowSize: 2 ** 24 }],
    ['a small list of headers', { maxHeaderListSize: 200 }],
    ['no push', { enablePush: false }],
  ] as [string, Settings][])('with %s gets back what it sends', async (_what, settings) => {
    const session = await connected(settings);
    for (const size of [0, 1, 99, 16_384, 70_000]) await checkEcho(session, body(size), 5_000);
  });

  it('gets back what it sends on many streams at once', async () => {
    const one = fc.tuple(fc.oneof(fc.nat(100), fc.nat(200_000)), fc.integer({ min: 1_000, max: 70_000 }));
    const settings = fc.record({
      initialWindowSize: fc.integer({ min: 2_000, max: 300_000 }),
      maxFrameSize: fc.integer({ min: 16_384, max: 300_000 }),
      headerTableSize: fc.constantFrom(0, 100, 4_096),
    });
    const runs = fc.asyncProperty(fc.array(one, { minLength: 1, maxLength: 30 }), settings, async (bodies, own) => {
      const session = await connected(own);
      await Promise.all(bodies.map(([size, piece], index) => checkEcho(session, body(size, index), piece)));
      session.destroy();
    });
    await fc.assert(runs, { numRuns: 10 });
  });

  it('gets nothing of a body while its window is nothing, and all of it later', async () => {
    const session = await connected({ initialWindowSize: 0 });
    const stream = post(session, '/?50000');
    await once(stream, 'response');
    const answer = received(stream);
    session.settings({ initialWindowSize: 10, headerTableSize: 4_096 });
    await once(session, 'localSettings');
    session.settings({ initialWindowSize: 60_000, headerTableSize: 0 });
    await once(session, 'localSettings');
    stream.end();
    expect((await answer).equals(body(50_000))).toBe(true);
    await checkEcho(session, body(10), 10);
  });

  it('that reads slowly makes this side wait, and misses nothing', async () => {
    const session = await connected();
    const stream = post(session, '/?1000000');
    stream.end();
    await once(stream, 'response');
    const chunks: Buffer[] = [];
    for await (const chunk of stream) {
      chunks.push(chunk as Buffer);
      await turns(2);
    }
    expect(Buffer.concat(chunks).equals(body(1_000_000))).toBe(true);
  });

  it('that breaks off streams in the middle ends these, and no others', async () => {
    const session = await connected();
    const rest = checkEcho(session, body(1_000_000), 9_000);
    for (let index = 0; index < 30; index++) {
      const stream = index % 2 === 0 ? post(session, '/?1000000') : post(session);
      stream.on('data', () => {});
      stream.write(body(50_000));
      if (index % 3 > 0) await once(stream, 'response');
      if (index % 3 === 2) await once(stream, 'data');
      if (index % 2 === 0) stream.close(NGHTTP2_CANCEL);
      else stream.destroy();
    }
    await rest;
    await until(() => calls.every(({ isClosed }) => isClosed));
    await checkEcho(session, body(10), 10);
  });

  it('that breaks the connection ends all of its streams', async () => {
    const session = await connected();
    const streams = Array.from({ length: 10 }, () => post(session, '/?10000000'));
    for (const stream of streams) await once(stream, 'response');
    session.destroy();
    await until(() => loopback.closedConnections === 1);
    expect(calls.map(({ isClosed, signal }) => isClosed && signal.aborted)).toEqual(streams.map(() => true));
  });

  it('closes when it has all it asked for', async () => {
    const session = await connected();
    const answer = checkEcho(session, body(300_000), 10_000);
    session.close();
    await answer;
    await until(() => loopback.closedConnections === 1);
    expect(loopback.lateWrites).toBe(0);
  });

  it('gets all it asked for from a side that closes, and goes then', async () => {
    const session = await connected();
    const stream = post(session, '/?3000000');
    stream.end();
    await once(stream, 'response');
    const isTold = once(session, 'goaway');
    loopback.connections[0]?.close();
    await isTold;
    expect((await received(stream)).equals(body(3_000_000))).toBe(true);
    await until(() => session.destroyed && loopback.closedConnections === 1);
    expect([stream.rstCode, loopback.lateWrites]).toEqual([NGHTTP2_NO_ERROR, 0]);
  });

  it('sends trailers, and large heads', async () => {
    const session = await connected();
    const headers = Object.fromEntries(Array.from({ length: 60 }, (_, index) => [`x-${index}`, 'y'.repeat(200)]));
    const stream = session.request(
      { ':method': 'POST', ':path': '/', cookie: ['a=1', 'b=2'], ...headers },
      { waitForTrailers: true },
    );
    stream.on('wantTrailers', () => stream.sendTrailers({ checksum: '1' }));
    const answer = received(stream);
    stream.end('body');
    expect(String(await answer)).toBe('body');
    const large = post(session, '/', { ...headers, 'x-large': 'z'.repeat(10_000) });
    const [head] = (await once(large, 'response')) as [http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader];
    expect(head[':status']).toBe(431);
    large.end();
    await checkEcho(session, body(10), 10);
  });

  it('opens no more streams than it may, and all of them are served in the end', async () => {
    const session = await connected();
    expect(session.remoteSettings.maxConcurrentStreams).toBe(LIMITS.maxStreams);
    await Promise.all(Array.from({ length: 300 }, (_, index) => checkEcho(session, body(index), 100)));
    expect(calls).toHaveLength(300);
  });
});
