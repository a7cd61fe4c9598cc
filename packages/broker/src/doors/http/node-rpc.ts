/**
 * What the broker needs of the RPC library's part for Node: calls over HTTP/1.1, and compressed messages. Loaded with the first of
 * them, since it brings all of node:http2 with it, for which every start would wait.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ContextValues } from '@connectrpc/connect';
import type { Compression } from '@connectrpc/connect/protocol';
import type { UniversalHandler } from './universal.ts';

const library = () => import('@connectrpc/connect-node');

/** What clients may compress their messages with. */
export const COMPRESSIONS: readonly Compression[] = [
  compression('gzip', async () => (await library()).compressionGzip),
  compression('br', async () => (await library()).compressionBrotli),
];

/** Lets the library answer. Rejects when it cannot; errors of the call are among its answers. */
export async function answerNodeRequest(
  request: IncomingMessage,
  response: ServerResponse,
  handler: UniversalHandler,
  contextValues: ContextValues,
): Promise<void> {
  const { universalRequestFromNodeRequest, universalResponseToNodeResponse } = await library();
  const answer = await handler(universalRequestFromNodeRequest(request, response, undefined, contextValues));
  await universalResponseToNodeResponse(answer, response);
}

function compression(name: string, load: () => Promise<Compression>): Compression {
  return {
    name,
    compress: async (bytes) => (await load()).compress(bytes),
    decompress: async (bytes, maxBytes) => (await load()).decompress(bytes, maxBytes),
  };
}
