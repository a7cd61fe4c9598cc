/** A stream for code that waits: what it holds of a body, when either side has to wait, and how waiting ends. */
import { NaruError } from '@naru/protocol';
import { VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { turns, watched } from '../../runtime/settling.ts';
import { ERROR_CODE, FLAG, FRAME, rstStreamFrame } from './frames.ts';
import { Loopback, SMALL_LIMITS } from './loopback-http2.ts';
import { POST, type RawHttp2Client } from './raw-http2-client.ts';
import { StreamCall, type BodyReader } from './stream-call.ts';

const MIB = 1024 * 1024;
/** Of items, and what they take beside their bytes, beyond which the client waits. */
const WAITING_BYTES = 256 * 1024;
const ITEM_BYTES = 128;
const WINDOW_BYTES = SMALL_LIMITS.streamWindowBytes;
const HIGH_WATER_BYTES = 64 * 1024;
/** Divides neither the window nor what may wait. */
const PART_BYTES = 9_999;

let loopback: Loopback;
let client: RawHttp2Client;
let calls: StreamCall[];
let reader: BodyReader | undefined;

beforeEach(async () => {
  calls = [];
  reader = undefined;
  const onStream = (stream: ConstructorParameters<typeof StreamCall>[0]): void =>
    void calls.push(reader === undefined ? new StreamCall(stream) : new StreamCall(stream, reader));
  loopback = await Loopback.listen({ clock: new VirtualClock(), onStream });
  client = await loopback.greeted();
});

afterEach(() => loopback.close());

/** A request whose body comes later. */
async function opened(streamId = 1): Promise<StreamCall> {
  client.headers(streamId, POST);
  await client.settle();
  return calls.at(-1) as StreamCall;
}

async function bodyOf(call: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const part of call) parts.push(part);
  return Buffer.concat(parts).toString('latin1');
}

/** Sends as much as the window lets, up to `bytes`; returns how much that was. */
async function sendWhileAllowed(bytes: number): Promise<number> {
  let window = WINDOW_BYTES;
  let sent = 0;
  for (;;) {
    const part = Math.min(PART_BYTES, window, bytes - sent);
    if (part === 0) return sent;
    client.data(1, Buffer.alloc(part, 'x'));
    sent += part;
    await client.settle();
    window += client.takeCredit(1) - part;
  }
}

describe('what is received', () => {
  it('comes in order, as it was sent, and ends; also what came before anyone asked', async () => {
    const call = await opened();
    client.data(1, 'before ');
    await client.settle();
    const body = bodyOf(call);
    client.data(1, 'between ', false, 10);
    await client.settle();
    client.data(1, 'after', true);
    expect(await body).toBe('before between after');
    expect(await call.next()).toEqual({ done: true, value: undefined });
    expect(call.signal.aborted).toBe(false);
  });

  it('makes the client wait when too much of it waits, until some of that is taken', async () => {
    const call = await opened();
    const sent = await sendWhileAllowed(10 * MIB);
    const waiting = (bytes: number): number => bytes + Math.ceil(bytes / PART_BYTES) * ITEM_BYTES;
    expect(waiting(sent)).toBeGreaterThanOrEqual(WAITING_BYTES);
    expect(waiting(sent)).toBeLessThanOrEqual(WAITING_BYTES + 2 * WINDOW_BYTES);
    let taken = 0;
    while (client.waiting(FRAME.windowUpdate, 1).length === 0) {
      taken += (await call.next()).value?.length ?? 0;
      await client.settle();
    }
    // As soon as less than that waits.
    expect(waiting(sent - taken)).toBeLessThan(WAITING_BYTES);
    expect(waiting(sent - taken)).toBeGreaterThanOrEqual(WAITING_BYTES - 2 * (PART_BYTES + ITEM_BYTES));
    client.data(1, 'the rest', true);
    const rest = await bodyOf(call);
    expect(rest.length).toBe(sent - taken + 'the rest'.length);
    expect(rest.endsWith('xthe rest')).toBe(true);
  });

  it('makes the client wait also when what waits is many items without a byte', async () => {
    const empty = new Uint8Array();
    let items = 0;
    const push: BodyReader['push'] = (part, onItem) => {
      items += part.length;
      for (let item = 0; item < part.length; item++) onItem(empty);
    };
    reader = { push, atEnd: () => null };
    await opened();
    const sent = await sendWhileAllowed(4 * MIB);
    expect(items).toBe(sent);
    expect(sent).toBeLessThan(2 * MIB);
  });

  it('is asked for no more when the call has ended and reads no further: the stream is reset behind the answer', async () => {
    const call = await opened();
    client.data(1, 'too much');
    await client.settle();
    call.respond(413, []);
    call.end([], false);
    expect((await client.takeHeaders(1)).fields.get(':status')).toBe('413');
    expect((await client.takeFrame(FRAME.data, 1)).flags).toBe(FLAG.endStream);
    expect((await client.takeFrame(FRAME.rstStream, 1)).payload.readUInt32BE(0)).toBe(ERROR_CODE.noError);
    expect(call.isClosed).toBe(true);
    // What was on its way is no mistake.
    client.data(1, 'and more', true);
    await client.settle();
    expect(loopback.reasons).toEqual([]);
  });

  it('is not reset behind the answer when the client has sent all of it', async () => {
    const call = await opened();
    client.data(1, 'all', true);
    await client.settle();
    call.respond(200, []);
    call.end([], false);
    await client.takeFrame(FRAME.data, 1);
    await client.settle();
    expect(client.waiting(FRAME.rstStream, 1)).toEqual([]);
    expect(call.isClosed).toBe(true);
  });

  it('is dropped once the call has ended, and the client may go on sending', async () => {
    const call = await opened();
    await sendWhileAllowed(10 * MIB);
    client.takeCredit(1);
    call.respond(200, []);
    call.end();
    expect(await call.next()).toEqual({ done: true, value: undefined });
    expect((await client.takeHeaders(1)).fields.get(':status')).toBe('200');
    await client.settle();
    // All of the window, or more than half of it.
    expect(client.takeCredit(1)).toBeGreaterThanOrEqual(WINDOW_BYTES / 2);
    expect(call.isClosed).toBe(false);
    client.data(1, 'unheard', true);
    await client.settle();
    expect(call.isClosed).toBe(true);
    expect(call.signal.aborted).toBe(true);
  });

  it('ends with what the reader says is wrong with it, after the items before that', async () => {
    const torn = new NaruError('INVALID_REQUEST', 'torn');
    reader = {
      push: (part, onItem) => {
        for (const byte of part) {
          if (byte === 0x21) throw torn;
          onItem(Uint8Array.of(byte));
        }
      },
      atEnd: () => null,
    };
    const call = await opened();
    client.data(1, 'ab!c');
    await client.settle();
    expect(await call.next()).toEqual({ done: false, value: Uint8Array.of(0x61) });
    expect(await call.next()).toEqual({ done: false, value: Uint8Array.of(0x62) });
    await expect(call.next()).rejects.toBe(torn);
    expect(call.isClosed).toBe(false);
  });

  it('may not end where the reader says so', async () => {
    const torn = new NaruError('INVALID_REQUEST', 'torn');
    reader = { push: (part, onItem) => onItem(Buffer.from(part)), atEnd: () => torn };
    const call = await opened();
    const body = watched(bodyOf(call));
    client.data(1, 'x', true);
    await client.settle();
    expect(body.error).toBe(torn);
  });
});

describe('what is written', () => {
  it('waits when much of it has not been sent, and goes on when it has', async () => {
    const call = await opened();
    call.respond(200, []);
    expect(call.write([Buffer.alloc(HIGH_WATER_BYTES - 1)])).toBeUndefined();
    await client.takeData(1, HIGH_WATER_BYTES - 1);
    // The client's first window is used up.
    const room = watched(call.write([Buffer.alloc(HIGH_WATER_BYTES)]) as Promise<void>);
    await client.settle();
    expect(room).toEqual({});
    client.widen(0, MIB);
    client.widen(1, 10);
    await client.settle();
    expect('value' in room).toBe(true);
    await client.takeData(1, 10);
    expect(call.write([Buffer.alloc(20)])).toBeInstanceOf(Promise);
    client.widen(1, MIB);
    await client.takeData(1, HIGH_WATER_BYTES - 10 + 20);
    expect(call.write([Buffer.of(1)])).toBeUndefined();
  });

  it('is sent before the end, and the trailers after it', async () => {
    const call = await opened();
    call.respond(200, [['content-type', 'x/y']]);
    void call.write([Buffer.from('ab'), new Uint8Array(), Buffer.from('c')]);
    void call.write([Buffer.from('d')]);
    call.end([['grpc-status', '0']]);
    void call.write([Buffer.from('not this')]);
    call.end([['grpc-status', '13']]);
    const head = await client.takeHeaders(1);
    expect([...head.fields]).toEqual([
      [':status', '200'],
      ['content-type', 'x/y'],
    ]);
    expect(String(await client.takeData(1, 4))).toBe('abcd');
    const trailers = await client.takeHeaders(1);
    expect([...trailers.fields]).toEqual([['grpc-status', '0']]);
    expect(trailers.endStream).toBe(true);
    await client.settle();
    expect(client.waiting(FRAME.data)).toEqual([]);
  });

  it('ends before the client has: the rest of its body is not an error', async () => {
    const call = await opened();
    const body = watched(bodyOf(call));
    client.data(1, 'half');
    await client.settle();
    call.respond(200, []);
    call.end();
    await turns(1);
    expect(body.value).toBe('half');
    await client.takeHeaders(1);
    expect((await client.takeFrame(FRAME.data, 1)).payload.length).toBe(0);
    expect(call.isClosed).toBe(false);
    client.data(1, 'the other half', true);
    await client.settle();
    expect(call.isClosed).toBe(true);
    expect(client.inbox).toEqual([]);
  });
});

describe('a client that goes', () => {
  it('ends waiting for what it sends, with an error', async () => {
    const call = await opened();
    const next = watched(call.next());
    client.write(rstStreamFrame(1, ERROR_CODE.cancel));
    await client.settle();
    expect(next.error).toMatchObject({ code: 'NETWORK' });
    expect(call.signal.aborted).toBe(true);
    await expect(call.next()).rejects.toMatchObject({ code: 'NETWORK' });
  });

  it('ends waiting for room, and what is written then is dropped', async () => {
    const call = await opened();
    call.respond(200, []);
    const room = watched(call.write([Buffer.alloc(MIB)]) as Promise<void>);
    await client.settle();
    expect(room).toEqual({});
    client.write(rstStreamFrame(1, ERROR_CODE.cancel));
    await client.settle();
    expect('value' in room).toBe(true);
    expect(call.isClosed).toBe(true);
    expect(call.write([Buffer.alloc(MIB)])).toBeUndefined();
    call.respond(200, []);
    call.end([['grpc-status', '0']]);
    await client.settle();
    expect(client.waiting(FRAME.headers)).toHaveLength(1);
  });

  it('leaves what it had sent before, and then the error', async () => {
    const call = await opened();
    client.data(1, 'sent');
    client.write(rstStreamFrame(1, ERROR_CODE.cancel));
    await client.settle();
    expect(String((await call.next()).value)).toBe('sent');
    await expect(call.next()).rejects.toMatchObject({ code: 'NETWORK' });
  });

  it('is no error for who has read all it had to say', async () => {
    const call = await opened();
    client.data(1, 'all', true);
    await client.settle();
    client.write(rstStreamFrame(1, ERROR_CODE.cancel));
    await client.settle();
    expect(call.signal.aborted).toBe(true);
    expect(await bodyOf(call)).toBe('all');
  });

  it('ends both kinds of waiting when its connection breaks', async () => {
    const call = await opened();
    call.respond(200, []);
    const next = watched(call.next());
    const room = watched(call.write([Buffer.alloc(MIB)]) as Promise<void>);
    client.destroy();
    while (loopback.closedConnections === 0) await turns(1);
    await turns(1);
    expect(next.error).toMatchObject({ code: 'NETWORK' });
    expect('value' in room).toBe(true);
    expect(call.signal.aborted).toBe(true);
  });
});
