/** The bare limit of node:http2: streams of plain bytes. POST takes them, with a tiny answer to each chunk; GET gives them. */
import { createServer } from 'node:http2';
import type { ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { sampleBatch } from '../payload.ts';
import { serverSettings, widen } from '../load/http2-options.ts';

const ACK = Buffer.alloc(16);

export async function openHttp2Server() {
  const server = createServer({ settings: serverSettings });
  server.on('session', widen);
  server.on('stream', (stream, headers) => {
    stream.on('error', () => stream.destroy());
    stream.respond({ ':status': 200 });
    if (headers[':method'] === 'POST') take(stream);
    else give(stream);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { ready: { port: (server.address() as AddressInfo).port }, commands: {}, close: () => void server.close() };
}

function take(stream: ServerHttp2Stream): void {
  stream.on('data', () => stream.write(ACK));
  stream.on('end', () => stream.end());
}

function give(stream: ServerHttp2Stream): void {
  const { bytes } = sampleBatch();
  const more = (): void => {
    while (!stream.destroyed && stream.write(bytes));
  };
  stream.on('drain', more);
  more();
}
