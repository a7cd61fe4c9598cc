/**
 * HTTP/1.1 and HTTP/2 on connections that the listener hands over: gRPC, gRPC-Web and Connect by path and content type,
 * and the few plain pages that operators and orchestrators ask for.
 */
import { createServer as createHttp1Server, type IncomingMessage, type ServerResponse } from 'node:http';
import {
  createServer as createHttp2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2';
import type { Socket } from 'node:net';
import { createConnectRouter, createContextKey, createContextValues, type ConnectRouter } from '@connectrpc/connect';
import {
  compressionBrotli,
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from '@connectrpc/connect-node';
import type { Logger } from '@naru/base';
import type { SchemaRegistryDoor } from './schema-registry.ts';
import { isPlainGrpc, serveGrpcStream, type StreamMethod } from '../grpc/grpc-stream.ts';

/** A stream's flow-control window: several poll answers or batches, so that one round trip does not bound throughput. */
const STREAM_WINDOW_BYTES = 1 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES = 2 * 1024 * 1024;
/** Frames larger than the default cost less for each byte. */
const MAX_FRAME_BYTES = 256 * 1024;
const MAX_STREAMS_PER_CONNECTION = 1_000;
const MAX_HEADER_BYTES = 16 * 1024;
/** Of one message, either way: the largest poll answer, one batch beyond its limit, and the envelope. */
const MAX_MESSAGE_BYTES = 25 * 1024 * 1024;

/** The address of the client, in a call's context. */
export const PEER_KEY = createContextKey('', { description: 'address of the client' });

export interface HttpPages {
  /** Null while the broker serves; else why not. */
  readonly notReady: () => string | null;
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>;
}

export interface HttpDoor {
  readonly http1: (socket: Socket) => void;
  readonly http2: (socket: Socket) => void;
  /** Asks the other sides to go once their calls are done. */
  close(): void;
}

type Request = IncomingMessage | Http2ServerRequest;
type Response = ServerResponse | Http2ServerResponse;

export interface HttpDoorOptions {
  readonly routes: (router: ConnectRouter) => void;
  /** Methods that plain gRPC over HTTP/2 gets without the library. They are among `routes` too. */
  readonly streams: readonly StreamMethod[];
  readonly pages: HttpPages;
  readonly schemaRegistry: SchemaRegistryDoor;
  readonly logger: Logger;
}

export function httpDoor({ routes, streams, pages, schemaRegistry, logger }: HttpDoorOptions): HttpDoor {
  const rpc = rpcHandler(routes, logger);
  const byPath = new Map(streams.map((method) => [method.path, method]));
  const handle = (request: Request, response: Response): void => {
    const path = (request.url ?? '/').split('?', 1)[0] as string;
    if (servePage(path, request.method ?? 'GET', response, pages, logger) || schemaRegistry(request, response)) return;
    const method = byPath.get(path);
    if (method !== undefined && 'stream' in response && request.method === 'POST' && isPlainGrpc(request.headers)) {
      void serveGrpcStream(response.stream, method, MAX_MESSAGE_BYTES, logger);
      return;
    }
    rpc(path, request, response);
  };
  const http1 = createHttp1Server({ maxHeaderSize: MAX_HEADER_BYTES }, handle);
  const http2 = createHttp2Server(
    {
      settings: {
        initialWindowSize: STREAM_WINDOW_BYTES,
        maxFrameSize: MAX_FRAME_BYTES,
        maxConcurrentStreams: MAX_STREAMS_PER_CONNECTION,
        maxHeaderListSize: MAX_HEADER_BYTES,
      },
    },
    handle,
  );
  // What a server does when it listens itself: watches connections, so that its time-outs for requests hold.
  http1.emit('listening');
  const sessions = new Set<ServerHttp2Session>();
  http2.on('session', (session) => {
    session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    sessions.add(session);
    session.on('close', () => sessions.delete(session));
  });
  http2.on('sessionError', (error) => logger.debug({ error }, 'an HTTP/2 session failed'));
  http1.on('clientError', (_error, socket) => socket.destroy());
  return {
    http1: (socket) => http1.emit('connection', socket),
    http2: (socket) => http2.emit('connection', socket),
    close: () => {
      http1.close();
      http1.closeIdleConnections();
      for (const session of sessions) session.close();
    },
  };
}

/** Calls through the library. */
function rpcHandler(
  routes: (router: ConnectRouter) => void,
  logger: Logger,
): (path: string, request: Request, response: Response) => void {
  const router = createConnectRouter({
    readMaxBytes: MAX_MESSAGE_BYTES,
    writeMaxBytes: MAX_MESSAGE_BYTES,
    // Compressed requests are understood. Answers are not compressed: batches bring their own compression.
    acceptCompression: [compressionGzip, compressionBrotli],
    compressMinBytes: MAX_MESSAGE_BYTES,
    // For people and small clients: a 0 that is left out looks like something missing.
    jsonOptions: { alwaysEmitImplicit: true },
  });
  routes(router);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  return (path, request, response) => {
    const handler = handlers.get(path);
    if (handler === undefined) {
      send(response, 404, 'text/plain; charset=utf-8', `there is nothing at ${path}\n`);
      return;
    }
    const context = createContextValues().set(PEER_KEY, request.socket.remoteAddress ?? '');
    handler(universalRequestFromNodeRequest(request as never, response as never, undefined, context))
      .then((answer) => universalResponseToNodeResponse(answer, response as never))
      // The call itself answered its errors; what is left are connections that broke under the answer.
      .catch((error: unknown) => logger.debug({ error, path }, 'an answer could not be sent'));
  };
}

function servePage(path: string, method: string, response: Response, pages: HttpPages, logger: Logger): boolean {
  if (method !== 'GET' && method !== 'HEAD') return false;
  switch (path) {
    case '/':
      send(response, 200, 'text/plain; charset=utf-8', 'Naru event broker. See /healthz, /readyz and /metrics.\n');
      return true;
    case '/healthz':
      send(response, 200, 'text/plain; charset=utf-8', 'ok\n');
      return true;
    case '/readyz': {
      const reason = pages.notReady();
      send(response, reason === null ? 200 : 503, 'text/plain; charset=utf-8', `${reason ?? 'ready'}\n`);
      return true;
    }
    case '/metrics':
      pages.metrics().then(
        ({ contentType, text }) => send(response, 200, contentType, text),
        (error: unknown) => {
          logger.error({ error }, 'metrics could not be collected');
          send(response, 500, 'text/plain; charset=utf-8', 'metrics could not be collected\n');
        },
      );
      return true;
    default:
      return false;
  }
}

function send(response: Response, status: number, contentType: string, text: string): void {
  // Both kinds of response have the same method, with overloads that TypeScript cannot unite.
  (response as ServerResponse).writeHead(status, {
    'content-type': contentType,
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
  });
  response.end(text);
}
