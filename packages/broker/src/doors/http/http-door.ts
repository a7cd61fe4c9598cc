/**
 * HTTP/1.1 and HTTP/2 on connections that the listener hands over: gRPC, gRPC-Web and Connect by path and content type,
 * and the few plain pages that operators and orchestrators ask for.
 */
import { createServer as createHttp1Server } from 'node:http';
import type { Socket } from 'node:net';
import {
  createConnectRouter,
  createContextKey,
  createContextValues,
  type ConnectRouter,
  type ContextValues,
} from '@connectrpc/connect';
import type { Clock, Logger, Timers } from '@naru/base';
import { isPlainGrpc, serveGrpcStream, type StreamMethod } from '../grpc/grpc-stream.ts';
import { ERROR_CODE } from '../http2/frames.ts';
import { Http2Connection, type Http2Limits } from '../http2/http2-connection.ts';
import type { Http2Stream } from '../http2/http2-stream.ts';
import { http1Exchange, http2Exchange, type HttpExchange } from './http-exchange.ts';
import { answerNodeRequest, COMPRESSIONS } from './node-rpc.ts';
import type { SchemaRegistryDoor } from './schema-registry.ts';
import { answerUniversally, type UniversalHandler } from './universal.ts';

const MAX_HEADER_BYTES = 16 * 1024;
const HTTP2_LIMITS: Http2Limits = {
  // So that a publisher has work while the broker's answers are on their way: with a quarter of it, it stood still every other time.
  streamWindowBytes: 4 * 1024 * 1024,
  connectionWindowBytes: 8 * 1024 * 1024,
  heldBytes: 16 * 1024 * 1024,
  // Frames larger than the default cost less for each byte.
  maxFrameBytes: 256 * 1024,
  maxStreams: 1_000,
  maxHeaderBytes: MAX_HEADER_BYTES,
};
/** Of one message, either way: the largest poll answer, one batch beyond its limit, and the envelope. */
const MAX_MESSAGE_BYTES = 25 * 1024 * 1024;

const TEXT = 'text/plain; charset=utf-8';
/** The call itself answered its errors; what is left are connections that broke under the answer. */
const UNSENT = 'an answer could not be sent';

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

export interface HttpDoorOptions {
  readonly routes: (router: ConnectRouter) => void;
  /** Methods that plain gRPC over HTTP/2 gets without the library. They are among `routes` too. */
  readonly streams: readonly StreamMethod[];
  readonly pages: HttpPages;
  readonly schemaRegistry: SchemaRegistryDoor;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
}

export function httpDoor(options: HttpDoorOptions): HttpDoor {
  const { routes, pages, schemaRegistry, clock, timers, logger } = options;
  const handlerOf = rpcHandlers(routes);
  const serve = (path: string, exchange: HttpExchange): void => {
    if (servePage(path, exchange, pages, logger) || schemaRegistry(exchange)) return;
    exchange.answer({ status: 404, contentType: TEXT, text: `there is nothing at ${path}\n` });
  };
  const http1 = createHttp1Server({ maxHeaderSize: MAX_HEADER_BYTES }, (request, response) => {
    const path = pathOf(request.url ?? '/');
    const handler = handlerOf(path);
    if (handler === undefined) return serve(path, http1Exchange(request, response));
    answerNodeRequest(request, response, handler, contextOf(request.socket.remoteAddress ?? '')).catch(
      (error: unknown) => logger.debug({ error, path }, UNSENT),
    );
  });
  // What a server does when it listens itself: watches connections, so that its time-outs for requests hold.
  http1.emit('listening');
  http1.on('clientError', (_error, socket) => socket.destroy());
  const connections = new Set<Http2Connection>();
  const onStream = streamHandler(options, handlerOf, serve);
  return {
    http1: (socket) => http1.emit('connection', socket),
    http2: (socket) => {
      const onClosed = (): unknown => connections.delete(connection);
      const connection = new Http2Connection(socket, {
        limits: HTTP2_LIMITS,
        clock,
        timers,
        logger,
        onStream,
        onClosed,
      });
      connections.add(connection);
    },
    close: () => {
      http1.close();
      http1.closeIdleConnections();
      for (const connection of connections) connection.close();
    },
  };
}

function streamHandler(
  { streams, logger }: HttpDoorOptions,
  handlerOf: (path: string) => UniversalHandler | undefined,
  serve: (path: string, exchange: HttpExchange) => void,
): (stream: Http2Stream) => void {
  const byPath = new Map(streams.map((method) => [method.path, method]));
  return (stream) => {
    const path = pathOf(stream.request.path);
    const method = byPath.get(path);
    if (method !== undefined && isPlainGrpc(stream.request)) {
      void serveGrpcStream(stream, method, MAX_MESSAGE_BYTES, logger);
      return;
    }
    const handler = handlerOf(path);
    if (handler === undefined) return serve(path, http2Exchange(stream));
    answerUniversally(stream, handler, contextOf(stream.peer)).catch((error: unknown) => {
      logger.debug({ error, path }, UNSENT);
      stream.reset(ERROR_CODE.internalError);
    });
  };
}

function pathOf(url: string): string {
  return url.split('?', 1)[0] as string;
}

function contextOf(peer: string): ContextValues {
  return createContextValues().set(PEER_KEY, peer);
}

/** Calls through the library, by path. */
function rpcHandlers(routes: (router: ConnectRouter) => void): (path: string) => UniversalHandler | undefined {
  const router = createConnectRouter({
    readMaxBytes: MAX_MESSAGE_BYTES,
    writeMaxBytes: MAX_MESSAGE_BYTES,
    // Compressed requests are understood. Answers are not compressed: batches bring their own compression.
    acceptCompression: [...COMPRESSIONS],
    compressMinBytes: MAX_MESSAGE_BYTES,
    // For people and small clients: a 0 that is left out looks like something missing.
    jsonOptions: { alwaysEmitImplicit: true },
  });
  routes(router);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  return (path) => handlers.get(path);
}

function servePage(path: string, exchange: HttpExchange, pages: HttpPages, logger: Logger): boolean {
  if (exchange.method !== 'GET' && exchange.method !== 'HEAD') return false;
  const say = (status: number, text: string): boolean => {
    exchange.answer({ status, contentType: TEXT, text });
    return true;
  };
  switch (path) {
    case '/':
      return say(200, 'Naru event broker. See /healthz, /readyz and /metrics.\n');
    case '/healthz':
      return say(200, 'ok\n');
    case '/readyz': {
      const reason = pages.notReady();
      return say(reason === null ? 200 : 503, `${reason ?? 'ready'}\n`);
    }
    case '/metrics':
      pages.metrics().then(
        ({ contentType, text }) => exchange.answer({ status: 200, contentType, text }),
        (error: unknown) => {
          logger.error({ error }, 'metrics could not be collected');
          say(500, 'metrics could not be collected\n');
        },
      );
      return true;
    default:
      return false;
  }
}
