/** Clients that do what gets them nowhere, over and over, or far too much of one thing: the connection ends, others go on. */
import { VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { turns } from '../../runtime/settling.ts';
import {
  ERROR_CODE,
  FLAG,
  FRAME,
  frame,
  headersFrames,
  rstStreamFrame,
  settingsFrame,
  windowUpdateFrame,
} from './frames.ts';
import { encodeHeaders } from './hpack-encoder.ts';
import { Loopback } from './loopback-http2.ts';
import { dataFrame, GET, POST, type RawHttp2Client } from './raw-http2-client.ts';

/** More than what is allowed at once. */
const MANY = 6_000;
const NOTHING = new Uint8Array();

let clock: VirtualClock;
let loopback: Loopback;
let client: RawHttp2Client;

beforeEach(async () => {
  clock = new VirtualClock();
  loopback = await Loopback.listen({ clock });
  client = await loopback.greeted();
});

afterEach(() => loopback.close());

function head(streamId: number, fields = POST, endStream = false): Uint8Array {
  return headersFrames(streamId, encodeHeaders(fields), endStream, 16_384);
}

const numbers = Array.from({ length: MANY }, (_, index) => index);

/** Sends all of it; fails when the connection is not closed for it. */
async function checkRefused(...frames: readonly Uint8Array[]): Promise<string> {
  const other = await loopback.greeted();
  client.write(...frames);
  await expect(client.settle()).rejects.toThrow('the connection was closed');
  const { code, reason } = await client.takeFarewell();
  expect(code).toBe(ERROR_CODE.enhanceYourCalm);
  for (const { closes } of loopback.streams.values()) expect(closes).toBe(1);
  await other.settle();
  return reason;
}

async function checkTaken(...frames: readonly Uint8Array[]): Promise<void> {
  client.write(...frames);
  await client.settle();
}

describe('too many', () => {
  it('requests that the client breaks off', async () => {
    const frames = numbers.flatMap((n) => [head(2 * n + 1, GET, true), rstStreamFrame(2 * n + 1, ERROR_CODE.cancel)]);
    expect(await checkRefused(...frames)).toBe('too many resets');
    expect(loopback.streams.size).toBeLessThan(MANY);
  });

  it('requests beyond those that may be open', async () => {
    for (const streamId of [1, 3, 5, 7]) client.write(head(streamId));
    expect(await checkRefused(...numbers.map((n) => head(2 * n + 9)))).toBe('too many streams that are refused');
  });

  it('settings', async () => {
    expect(await checkRefused(...numbers.map(() => settingsFrame([])))).toBe('too many settings');
  });

  it('settings in few frames, each of which changes the windows of all streams', async () => {
    for (const streamId of [1, 3, 5, 7]) client.write(head(streamId));
    const changes = Array.from({ length: 2_000 }, (_, n) => [4, n] as const);
    await checkRefused(...Array.from({ length: 4 }, () => settingsFrame(changes)));
  });

  it('priorities', async () => {
    const priority = frame(FRAME.priority, 0, 3, Buffer.from([0, 0, 0, 1, 5]));
    expect(await checkRefused(...numbers.map(() => priority))).toBe('too many priorities');
  });

  it('frames of no known type', async () => {
    expect(await checkRefused(...numbers.map(() => frame(0xbe, 0, 0, NOTHING)))).toBe('too many unknown frames');
  });

  it('frames of DATA without data', async () => {
    expect(await checkRefused(head(1), ...numbers.map(() => dataFrame(1, '')))).toBe('too many empty frames');
  });

  it('frames of DATA that are nothing but padding', async () => {
    await checkRefused(head(1), ...numbers.map(() => dataFrame(1, '', false, 1)));
  });

  it('frames of DATA without data, of a stream that this side has broken off', async () => {
    client.write(head(1));
    await client.settle();
    loopback.told(1).stream.reset(ERROR_CODE.cancel);
    await checkRefused(...numbers.map(() => dataFrame(1, '')));
  });

  it('frames of DATA of streams that are over', async () => {
    client.write(head(1), rstStreamFrame(1, ERROR_CODE.cancel));
    const reason = await checkRefused(...numbers.map(() => dataFrame(1, 'x')));
    expect(reason).toBe('too many frames of streams that are over');
  });

  // What of "rapid resets" is left when clients have this side do the resets (CVE-2025-8671).
  it.each([
    ['a window that grows by nothing', POST, (id: number) => windowUpdateFrame(id, 0)],
    ['a window that is too large', POST, (id: number) => windowUpdateFrame(id, 2 ** 31 - 1)],
    ['HEADERS after the end', GET, (id: number) => head(id, [['a', 'b']], true)],
    ['DATA after the end', GET, (id: number) => dataFrame(id, 'x')],
    ['a priority of itself', POST, (id: number) => frame(FRAME.priority, 0, id, Buffer.from([0, 0, id >>> 8, id, 1]))],
    ['trailers that do not end it', POST, (id: number) => head(id, [['a', 'b']])],
    ['more data than it said', [...POST, ['content-length', '0']] as typeof POST, (id: number) => dataFrame(id, 'x')],
  ])('requests that this side has to break off, for %s', async (_what, fields, mistake) => {
    const frames = numbers.flatMap((n) => [head(2 * n + 1, fields, fields === GET), mistake(2 * n + 1)]);
    await checkRefused(...frames);
  });

  it('malformed requests', async () => {
    await checkRefused(...numbers.map((n) => head(2 * n + 1, [...GET, ['Upper', 'x']], true)));
  });
});

describe('a header block', () => {
  const block = encodeHeaders(GET);
  const open = frame(FRAME.headers, 0, 1, block);
  const more = (payload: Uint8Array, flags = 0): Uint8Array => frame(FRAME.continuation, flags, 1, payload);

  it('may have 32 frames, and no more', async () => {
    await checkTaken(open, ...numbers.slice(0, 30).map(() => more(NOTHING)), more(NOTHING, FLAG.endHeaders));
    expect(loopback.streams.size).toBe(1);
    const rest = numbers.slice(0, 32).map(() => frame(FRAME.continuation, 0, 3, NOTHING));
    expect(await checkRefused(frame(FRAME.headers, 0, 3, block), ...rest)).toBe('a header block is too large');
  });

  it('may have 32 KiB, and no more', async () => {
    const large = Buffer.alloc(16_384);
    await checkRefused(open, more(large), more(large));
  });

  it('may say a little in a few bytes that stand for much more', async () => {
    // A field of 2 KiB in the table, and then references to it.
    const value = Buffer.alloc(2_000, 'a');
    const field = Buffer.concat([Buffer.of(0x40, 1, 0x78, 0x7f, 0xd1, 0x0e), value]);
    const references = Buffer.alloc(10_000, 0x80 | 62);
    await checkTaken(
      frame(FRAME.headers, FLAG.endHeaders | FLAG.endStream, 1, Buffer.concat([block, field, references])),
    );
    expect((await client.takeHeaders(1)).fields.get(':status')).toBe('431');
    expect(loopback.streams.size).toBe(0);
  });
});

describe('what is allowed', () => {
  const reset = (n: number): Uint8Array[] => [head(2 * n + 1, GET, true), rstStreamFrame(2 * n + 1, ERROR_CODE.cancel)];

  it('comes back with time', async () => {
    await checkTaken(...numbers.slice(0, 4_900).flatMap(reset));
    clock.advance(1_000);
    await checkTaken(...numbers.slice(4_900, 5_400).flatMap(reset));
    await checkRefused(...numbers.slice(5_400, 5_600).flatMap(reset));
  });

  it('is any number of requests that are answered, and of pings whose answers are read', async () => {
    for (let round = 0; round < 60; round++) {
      const ids = [1, 3, 5, 7].map((id) => id + 8 * round);
      client.write(...ids.map((id) => head(id, GET, true)));
      for (let n = 0; n < 100; n++) client.write(frame(FRAME.ping, 0, 0, Buffer.alloc(8)));
      await client.settle();
      for (const id of ids) {
        loopback.told(id).stream.respond(200, []);
        loopback.told(id).stream.end();
      }
    }
    await client.settle();
    expect(client.isClosed).toBe(false);
  });
});

describe('answers that are not read', () => {
  it('end the connection when there are too many, and what it held is gone after a while', async () => {
    client.write(head(1));
    await client.settle();
    client.stopReading();
    const pings = Buffer.concat(Array.from({ length: 1_000 }, () => frame(FRAME.ping, 0, 0, Buffer.alloc(8))));
    while (loopback.reasons.length === 0) {
      client.write(pings);
      await turns(2);
      expect(loopback.unsentBytes).toBeLessThan(3 * 1024 * 1024);
    }
    expect(loopback.reasons).toEqual(['answers are not read']);
    expect(loopback.told(1).closes).toBe(1);
    expect(loopback.closedConnections).toBe(0);
    clock.advance(1_000);
    while (loopback.closedConnections === 0) await turns(1);
    expect(clock.pendingTimers).toBe(0);
  });
});
