/**
 * Confluent's Schema Registry REST API, on the broker's port over HTTP/1.1 and HTTP/2.
 *
 * Owns paths, content types, sizes and how errors look; what is asked and answered is in schema-registry-routes.ts.
 */
import type { Logger } from '@naru/base';
import type { SchemaService } from '../../service/schemas.ts';
import { BodyTooLargeError, BodyTornError, type HttpExchange } from './http-exchange.ts';
import {
  asRegistryError,
  methodNotAllowed,
  notFound,
  RegistryError,
  unsupportedMediaType,
} from './schema-registry-errors.ts';
import { PlainText, schemaRegistryRoutes, type RegistryRequest, type Route } from './schema-registry-routes.ts';

/** True when the path is the registry's, which then answers. */
export type SchemaRegistryDoor = (exchange: HttpExchange) => boolean;

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
  return (exchange) => {
    const [path = '', query = ''] = exchange.url.split('?', 2);
    const segments = path.split('/').slice(1);
    if (segments.at(-1) === '') segments.pop();
    if (!ROOTS.has(segments[0] ?? '')) return false;
    const contentType = answerType(exchange);
    serve(exchange, segments, query, routes).then(
      (answer) => {
        const text = answer instanceof PlainText ? answer.text : JSON.stringify(answer);
        exchange.answer({ status: 200, contentType, text });
      },
      (error: unknown) => {
        const known = asRegistryError(error);
        if (exchange.isClosed) return;
        if (known === null) logger.error({ error, path }, 'a request to the schema registry failed');
        const { status, errorCode, message } = known ?? new RegistryError(500, 500, 'Internal Server Error');
        exchange.answer({ status, contentType, text: JSON.stringify({ error_code: errorCode, message }) });
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
  request: HttpExchange,
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

function isTypeKnown(request: HttpExchange): boolean {
  const type = request.header('content-type');
  return type === undefined || CONTENT_TYPES_IN.has((type.split(';', 1)[0] as string).trim().toLowerCase());
}

/** Plain JSON for those who ask for it and not for the registry's own type. */
function answerType(request: HttpExchange): string {
  const accept = request.header('accept');
  const isPlain = accept !== undefined && accept.includes('application/json') && !accept.includes('schemaregistry');
  return isPlain ? 'application/json' : CONTENT_TYPE;
}

async function read(request: HttpExchange): Promise<string> {
  const bytes = await readBytes(request);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new RegistryError(400, 400, 'The body is not UTF-8');
  }
}

async function readBytes(request: HttpExchange): Promise<Buffer> {
  try {
    return await request.body(MAX_BODY_BYTES);
  } catch (error) {
    if (error instanceof BodyTornError) throw new RegistryError(400, 400, 'The request ended too early');
    if (!(error instanceof BodyTooLargeError)) throw error;
    throw new RegistryError(413, 413, `HTTP 413 Request Entity Too Large: at most ${MAX_BODY_BYTES} bytes are taken`);
  }
}
