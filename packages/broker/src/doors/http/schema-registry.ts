/**
 * Confluent's Schema Registry REST API, on the broker's port over HTTP/1.1 and HTTP/2.
 *
 * Owns paths, content types, sizes and how errors look; what is asked and answered is in schema-registry-routes.ts.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import type { Logger } from '@naru/base';
import type { SchemaService } from '../../service/schemas.ts';
import {
  asRegistryError,
  methodNotAllowed,
  notFound,
  RegistryError,
  unsupportedMediaType,
} from './schema-registry-errors.ts';
import { PlainText, schemaRegistryRoutes, type RegistryRequest, type Route } from './schema-registry-routes.ts';

type Request = IncomingMessage | Http2ServerRequest;
type Response = ServerResponse | Http2ServerResponse;

/** True when the path is the registry's, which then answers. */
export type SchemaRegistryDoor = (request: Request, response: Response) => boolean;

const ROOTS: ReadonlySet<string> = new Set(['subjects', 'schemas', 'config', 'mode', 'compatibility', 'contexts']);
const CONTENT_TYPE = 'application/vnd.schemaregistry.v1+json';
const CONTENT_TYPES_IN: ReadonlySet<string> = new Set([
  CONTENT_TYPE,
  'application/vnd.schemaregistry+json',
  'application/json',
  'application/octet-stream',
]);
/** A schema of the largest size, escaped, and its references. */
const MAX_BODY_BYTES = 4 * 1024 * 1024;

export function schemaRegistryDoor(service: SchemaService, logger: Logger): SchemaRegistryDoor {
  const routes = schemaRegistryRoutes(service).map((route) => ({ route, segments: route.path.split('/') }));
  return (request, response) => {
    const [path = '', query = ''] = (request.url ?? '/').split('?', 2);
    const segments = path.split('/').slice(1);
    if (segments.at(-1) === '') segments.pop();
    if (!ROOTS.has(segments[0] ?? '')) return false;
    const contentType = answerType(request);
    serve(request, segments, query, routes).then(
      (answer) => send(response, 200, contentType, answer instanceof PlainText ? answer.text : JSON.stringify(answer)),
      (error: unknown) => {
        const known = asRegistryError(error);
        if (response.destroyed) return;
        if (known === null) logger.error({ error, path }, 'a request to the schema registry failed');
        const { status, errorCode, message } = known ?? new RegistryError(500, 500, 'Internal Server Error');
        send(response, status, contentType, JSON.stringify({ error_code: errorCode, message }), status === 413);
      },
    );
    return true;
  };
}

interface SplitRoute {
  readonly route: Route;
  readonly segments: readonly string[];
}

async function serve(
  request: Request,
  segments: readonly string[],
  query: string,
  routes: readonly SplitRoute[],
): Promise<unknown> {
  if (segments[0] === 'contexts') {
    if (segments.length === 1 && request.method === 'GET') return ['.'];
    throw new RegistryError(404, 404, 'Contexts are not supported: there is one registry');
  }
  const matching = routes.filter((route) => fits(route.segments, segments));
  const { route, segments: pattern } = matching.find((candidate) => candidate.route.method === request.method) ?? {};
  if (matching.length === 0) throw notFound();
  if (route === undefined || pattern === undefined) throw methodNotAllowed();
  const parameters = segments.filter((_, index) => pattern[index] === '*').map(decoded);
  const hasBody = route.method === 'POST' || route.method === 'PUT';
  if (hasBody && !isTypeKnown(request)) throw unsupportedMediaType();
  const asked: RegistryRequest = {
    parameters,
    query: new URLSearchParams(query),
    body: hasBody ? await read(request) : '',
  };
  return route.answer(asked);
}

function fits(pattern: readonly string[], segments: readonly string[]): boolean {
  return pattern.length === segments.length && pattern.every((part, index) => part === '*' || part === segments[index]);
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw new RegistryError(400, 400, `${JSON.stringify(segment)} is not a well-formed part of a path`);
  }
}

function isTypeKnown({ headers }: Request): boolean {
  const type = headers['content-type'];
  return type === undefined || CONTENT_TYPES_IN.has((type.split(';', 1)[0] as string).trim().toLowerCase());
}

/** Plain JSON for those who ask for it and not for the registry's own type. */
function answerType({ headers }: Request): string {
  const { accept } = headers;
  const isPlain = accept !== undefined && accept.includes('application/json') && !accept.includes('schemaregistry');
  return isPlain ? 'application/json' : CONTENT_TYPE;
}

async function read(request: Request): Promise<string> {
  const bytes = await readBytes(request);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new RegistryError(400, 400, 'The body is not UTF-8');
  }
}

/** By events, since a loop that is left early would close the connection before the answer is sent. */
function readBytes(request: Request): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      chunks.push(chunk);
      if (bytes <= MAX_BODY_BYTES) return;
      request.pause();
      chunks.length = 0;
      reject(
        new RegistryError(413, 413, `HTTP 413 Request Entity Too Large: at most ${MAX_BODY_BYTES} bytes are taken`),
      );
    });
    request.on('end', () => resolve(Buffer.concat(chunks)));
    request.on('error', reject);
    request.on('close', () => reject(new RegistryError(400, 400, 'The request ended too early')));
  });
}

function send(response: Response, status: number, contentType: string, text: string, isLast = false): void {
  if (response.writableEnded || response.destroyed) return;
  const isHttp1 = !('stream' in response);
  // Both kinds of response have the same method, with overloads that TypeScript cannot unite.
  (response as ServerResponse).writeHead(status, {
    'content-type': contentType,
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
    // What is left of a body that is too large is not read.
    ...(isLast && isHttp1 ? { connection: 'close' } : {}),
  });
  response.end(text, () => {
    if (isLast && 'stream' in response) response.stream.close();
  });
}
