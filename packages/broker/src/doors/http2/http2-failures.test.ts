/** Listeners of streams that throw, or that end a stream while they are told of it, and clients that send anything: nobody else notices. */
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { silentLogger, type Logger } from '@naru/base';
import { VirtualClock } from '@naru/testkit';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { turns } from '../../runtime/settling.ts';
import {
  ERROR_CODE,
  FLAG,
  FRAME,
  frame,
  headersFrames,
  PREFACE,
  rstStreamFrame,
  SETTING,
  settingsFrame,
  windowUpdateFrame,
} from './frames.ts';
import { encodeHeaders } from './hpack-encoder.ts';
import { Http2Connection } from './http2-connection.ts';
import type { Http2Stream, StreamListener } from './http2-stream.ts';
import { Loopback, SMALL_LIMITS, Told } from './loopback-http2.ts';
import { dataFrame, GET, POST } from './raw-http2-client.ts';

function headOf(streamId: number): Buffer {
  return headersFrames(streamId, encodeHeaders(POST), false, 1_000);
}

const DEAF: StreamListener = { onData() {}, onEnd() {}, onDrain() {}, onClose() {} };

let loopback: Loopback;
let onStream: (stream: Http2Stream) => void;

beforeEach(async () => {
  loopback = await Loopback.listen({ clock: new VirtualClock(), onStream: (stream) => onStream(stream) });
});

afterEach(() => loopback.close());

describe('a listener that throws', () => {
  const failure = new Error('a mistake');
  const fail = (): never => {
    throw failure;
  };

  it.each([
    ['when it is told of a stream', null],
    ['when it is told of data', { ...DEAF, onData: fail }],
    ['when it is told of the end', { ...DEAF, onEnd: fail }],
  ] as [string, StreamListener | null][])('%s ends its connection, and no other', async (_when, listener) => {
    onStream = (stream) => (stream.request.method === 'GET' || listener === null ? fail() : stream.listen(listener));
    const [client, other] = [await loopback.greeted(), await loopback.greeted()];
    client.headers(1, POST);
    client.data(1, 'x', true);
    expect(await client.takeFarewell()).toEqual({ code: ERROR_CODE.internalError, lastStreamId: 1, reason: '' });
    expect(loopback.errors.splice(0)).toEqual([failure]);
    await other.settle();
    while (loopback.closedConnections === 0) await turns(1);
    expect(loopback.closedConnections).toBe(1);
  });

  it('when it is told that its stream is over keeps no other stream from being told', async () => {
    const closed: number[] = [];
    onStream = (stream) =>
      stream.listen({
        ...DEAF,
        onClose: () => {
          closed.push(stream.id);
          if (stream.id === 1) fail();
        },
      });
    const socket = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() });
    let isClosed = false;
    const clock = new VirtualClock();
    const options = { limits: SMALL_LIMITS, clock, timers: clock, logger: silentLogger, onStream };
    const connection = new Http2Connection(socket as Socket, { ...options, onClosed: () => (isClosed = true) });
    expect(connection.peer).toBe('');
    for (const bytes of [PREFACE, settingsFrame([]), headOf(1), headOf(3)]) socket.push(bytes);
    await turns(5);
    // Nobody would catch it.
    expect(() => socket.emit('close')).not.toThrow();
    expect([closed, isClosed]).toEqual([[1, 3], true]);
  });
});

describe('a stream that is broken off', () => {
  async function checkBroken(listen: (stream: Http2Stream, told: string[]) => Partial<StreamListener>): Promise<void> {
    const told: string[] = [];
    onStream = (stream) => {
      const note = (what: string) => (): void => void told.push(what);
      const noting = { onData: note('data'), onEnd: note('end'), onDrain: note('drain'), onClose: note('close') };
      stream.listen({ ...noting, ...listen(stream, told) });
      if (stream.request.method === 'GET') stream.reset(ERROR_CODE.cancel);
    };
    const client = await loopback.greeted();
    client.headers(1, POST);
    client.data(1, 'x', true);
    client.headers(3, GET, true);
    await client.settle();
    expect(client.waiting(FRAME.rstStream).map(({ streamId }) => streamId)).toEqual([1, 3]);
    // Nothing after the end of it.
    expect(told).toEqual(['close', 'close']);
  }

  it('while it is told of data, or handed over, is told of no end behind that', async () => {
    await checkBroken((stream) => ({ onData: () => stream.reset(ERROR_CODE.cancel) }));
  });
});

describe('whatever a client sends', () => {
  const id = fc.constantFrom(1, 3, 5, 7, 9);
  const head = fc.tuple(id, fc.boolean(), fc.constantFrom(GET, POST, [['a', 'b']] as typeof GET));
  const bytes = fc.oneof(fc.nat(20), fc.constantFrom(30_000, 2 ** 31 - 1));
  const { data, continuation, ping } = FRAME;
  /** What a client may do, if not always at that time; a few are never right. */
  const frames = fc.oneof(
    { weight: 8, arbitrary: head.map(([to, end, fields]) => headersFrames(to, encodeHeaders(fields), end, 16_384)) },
    {
      weight: 8,
      arbitrary: fc.tuple(id, bytes, fc.boolean()).map(([to, n, end]) => dataFrame(to, Buffer.alloc(n % 30_001), end)),
    },
    { weight: 3, arbitrary: fc.tuple(id, bytes).map(([to, n]) => windowUpdateFrame(to, n)) },
    { weight: 2, arbitrary: bytes.map((n) => windowUpdateFrame(0, n)) },
    { weight: 3, arbitrary: id.map((to) => rstStreamFrame(to, ERROR_CODE.cancel)) },
    { weight: 3, arbitrary: bytes.map((n) => settingsFrame([[SETTING.initialWindowSize, n]])) },
    { weight: 2, arbitrary: fc.constant(frame(ping, 0, 0, Buffer.alloc(8))) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        frame(continuation, FLAG.endHeaders, 1, Buffer.alloc(3)),
        frame(data, FLAG.padded, 1, Buffer.of(9)),
      ),
    },
    {
      weight: 1,
      arbitrary: fc
        .tuple(fc.nat(12), fc.nat(255), fc.nat(9), fc.uint8Array({ maxLength: 20 }))
        .map(([type, flags, to, payload]) => frame(type, flags, to, payload)),
    },
  );

  it('every stream is told of its end once, and nothing fails that is not the fault of the client', async () => {
    const runs = fc.asyncProperty(fc.array(frames, { maxLength: 30 }), fc.nat(4), async (sent, answers) => {
      const socket = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() });
      const [clock, errors, streams] = [new VirtualClock(), [] as unknown[], [] as Told[]];
      const logger: Logger = { ...silentLogger, error: ({ error }) => void errors.push(error) };
      const onStream = (stream: Http2Stream): void => {
        streams.push(new Told(stream));
        if (answers > 0) stream.respond(200, []);
        if (answers > 1) stream.write([Buffer.alloc(100)]);
        if (answers > 2) stream.end([['a', 'b']]);
        if (answers > 3) stream.reset(ERROR_CODE.cancel);
      };
      const options = { limits: SMALL_LIMITS, clock, timers: clock, logger, onStream, onClosed: () => {} };
      const connection = new Http2Connection(socket as Socket, options);
      socket.push(Buffer.concat([PREFACE, settingsFrame([]), headersFrames(1, encodeHeaders(POST), false, 16_384)]));
      for (const bytes of sent) socket.push(bytes);
      await turns(3);
      connection.close();
      await turns(3);
      socket.destroy();
      await turns(2);
      expect(errors).toEqual([]);
      for (const { closes, late } of streams) expect([closes, late]).toEqual([1, 0]);
      expect(clock.pendingTimers).toBe(0);
    });
    await fc.assert(runs, { numRuns: 300 });
  });
});
