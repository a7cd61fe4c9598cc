/** A request and its answer, for what is answered alike over HTTP/1.1 and HTTP/2: pages and the schema registry. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2Stream } from '../http2/http2-stream.ts';
import { StreamCall } from '../http2/stream-call.ts';

/** Most bodies. */
const SMALL_BODY_BYTES = 4 * 1024;

/** A body that is larger than it may be. */
export class BodyTooLargeError extends Error {}
/** A client that went before its body was complete. */
export class BodyTornError extends Error {}

export interface HttpAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly text: string;
}

export interface HttpExchange {
  readonly method: string;
  /** With the query. */
  readonly url: string;
  header(name: string): string | undefined;
  /** @param maxBytes that are kept @throws BodyTooLargeError, BodyTornError */
  body(maxBytes: number): Promise<Buffer>;
  /** The client is gone. */
  readonly isClosed: boolean;
  /** Once. What is left of a body that was too large is not read. */
  answer(answer: HttpAnswer): void;
}

function headersOf({ contentType, text }: HttpAnswer): [string, string][] {
  return [
    ['content-type', contentType],
    ['content-length', String(Buffer.byteLength(text))],
    ['cache-control', 'no-store'],
  ];
}

export function http1Exchange(request: IncomingMessage, response: ServerResponse): HttpExchange {
  let isTooLarge = false;
  return {
    method: request.method ?? 'GET',
    url: request.url ?? '/',
    header: (name) => request.headers[name]?.toString(),
    // By events, since a loop that is left early would close the connection before the answer is sent.
    body: (maxBytes) =>
      new Promise((resolve, reject) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        request.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
          chunks.push(chunk);
          if (bytes <= maxBytes) return;
          isTooLarge = true;
          request.pause();
          chunks.length = 0;
          reject(new BodyTooLargeError(`more than ${maxBytes} bytes`));
        });
        request.on('end', () => resolve(Buffer.concat(chunks)));
        request.on('error', reject);
        request.on('close', () => reject(new BodyTornError('the request ended too early')));
      }),
    get isClosed() {
      return response.writableEnded || response.destroyed;
    },
    answer(answer) {
      if (response.writableEnded || response.destroyed) return;
      const connection = isTooLarge ? { connection: 'close' } : {};
      response.writeHead(answer.status, { ...Object.fromEntries(headersOf(answer)), ...connection });
      response.end(answer.text);
    },
  };
}

export function http2Exchange(stream: Http2Stream): HttpExchange {
  const { method, path, headers } = stream.request;
  const call = new StreamCall(stream);
  let isTooLarge = false;
  return {
    method,
    url: path,
    header: (name) => headers.get(name),
    async body(maxBytes) {
      // In one piece from the beginning: clients can send many small parts.
      let memory = Buffer.alloc(SMALL_BODY_BYTES);
      let bytes = 0;
      try {
        for await (const part of call) {
          isTooLarge = bytes + part.length > maxBytes;
          if (isTooLarge) break;
          if (bytes + part.length > memory.length) memory = Buffer.concat([memory], 2 * (bytes + part.length));
          memory.set(part, bytes);
          bytes += part.length;
        }
      } catch (cause) {
        throw new BodyTornError('the request ended too early', { cause });
      }
      if (isTooLarge) throw new BodyTooLargeError(`more than ${maxBytes} bytes`);
      return memory.subarray(0, bytes);
    },
    get isClosed() {
      return call.isClosed;
    },
    answer(answer) {
      call.respond(answer.status, [...headersOf(answer), ['date', new Date().toUTCString()]]);
      if (method !== 'HEAD') void call.write([Buffer.from(answer.text)]);
      call.end([], !isTooLarge);
    },
  };
}
