/** That connections are read into one buffer, on the Node that this repository brings, and that nothing is lost at the change. */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SharedReads } from './shared-reads.ts';

const reads = new SharedReads();
let server: Server;
let client: Socket;
let accepted: Socket;

beforeEach(async () => {
  server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  client = connect((server.address() as AddressInfo).port, '127.0.0.1');
  [accepted] = (await once(server, 'connection')) as [Socket];
});

afterEach(() => {
  client.destroy();
  server.close();
});

/** As many bytes of `socket`. */
function received(socket: Socket, length: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  return new Promise((resolve) => {
    socket.on('data', (part: Buffer) => {
      parts.push(Buffer.from(part));
      bytes += part.length;
      if (bytes >= length) resolve(Buffer.concat(parts));
    });
  });
}

describe('a connection with shared reads', () => {
  it('gives what was read before and what comes after, in order, and is written to as any other', async () => {
    client.write('first');
    await once(accepted, 'readable');
    const adopted = reads.adopt(accepted);
    expect(adopted).not.toBe(accepted);
    const rest = Buffer.alloc(3_000_000, 'abcdefg');
    client.write(rest);
    const all = await received(adopted, 5 + rest.length);
    expect(all.equals(Buffer.concat([Buffer.from('first'), rest]))).toBe(true);
    const answer = received(client, rest.length);
    adopted.write(rest);
    expect((await answer).equals(rest)).toBe(true);
    expect(adopted.remotePort).toBe(client.localPort);
  });

  it('has its parts in the same memory', async () => {
    const adopted = reads.adopt(accepted);
    const memory = new Set<ArrayBufferLike>();
    adopted.on('data', (part: Buffer) => memory.add(part.buffer));
    for (let round = 0; round < 3; round++) {
      client.write('again');
      await once(adopted, 'data');
    }
    expect(memory.size).toBe(1);
  });

  it('reads nothing while it is paused', async () => {
    const adopted = reads.adopt(accepted);
    let bytes = 0;
    adopted.on('data', (part: Buffer) => {
      bytes += part.length;
      if (bytes === part.length) adopted.pause();
    });
    const sent = Buffer.alloc(20_000_000);
    const isTaken = client.write(sent);
    await once(adopted, 'pause');
    expect(isTaken).toBe(false);
    const before = bytes;
    expect(before).toBeLessThan(sent.length);
    // A turn of the loop for each thing that could still come.
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
    expect(bytes).toBe(before);
    adopted.resume();
    while (bytes < sent.length) await once(adopted, 'data');
    expect(bytes).toBe(sent.length);
  });

  it('sees the end of the other side, and ends', async () => {
    const adopted = reads.adopt(accepted);
    adopted.resume();
    client.end();
    await Promise.all([once(adopted, 'close'), once(client, 'close')]);
    expect(adopted.destroyed).toBe(true);
  });

  it('is broken by a reset', async () => {
    const adopted = reads.adopt(accepted);
    adopted.resume();
    client.resetAndDestroy();
    await expect(once(adopted, 'close')).rejects.toMatchObject({ code: 'ECONNRESET' });
  });

  it('no longer belongs to the socket that it was, which ends without a sound', async () => {
    accepted.on('close', () => expect.unreachable('nobody is told'));
    const adopted = reads.adopt(accepted);
    expect(accepted.destroyed).toBe(true);
    adopted.write('still here');
    const [said] = (await once(client, 'data')) as [Buffer];
    expect(said.toString()).toBe('still here');
  });
});

it('a socket without a handle of the system stays what it is', () => {
  const socket = new PassThrough() as unknown as Socket;
  expect(reads.adopt(socket)).toBe(socket);
});
