/** The RPC library's view of a call on one of our HTTP/2 streams, and the way back. */
import type { ContextValues } from '@connectrpc/connect';
import type { UniversalServerRequest, UniversalServerResponse } from '@connectrpc/connect/protocol';
import type { HeaderField } from '../http2/hpack-decoder.ts';
import type { Http2Stream } from '../http2/http2-stream.ts';
import { StreamCall } from '../http2/stream-call.ts';

export type UniversalHandler = (request: UniversalServerRequest) => Promise<UniversalServerResponse>;

/** Lets the library answer. Rejects when it cannot; errors of the call are among its answers. */
export async function answerUniversally(
  stream: Http2Stream,
  handler: UniversalHandler,
  contextValues: ContextValues,
): Promise<void> {
  const call = new StreamCall(stream);
  const { method, path, headers } = stream.request;
  const { status, header, body, trailer } = await handler({
    httpVersion: '2.0',
    method,
    // The host is nobody's business here, and clients say strange ones.
    url: `http://localhost${path}`,
    header: new Headers([...headers]),
    body: call,
    signal: call.signal,
    contextValues,
  });
  let isBegun = false;
  // After the first of the body: until then, the call may set headers.
  const begin = (): void => {
    if (!isBegun) call.respond(status, fieldsOf(header));
    isBegun = true;
  };
  for await (const part of body ?? []) {
    begin();
    await call.write([part]);
    if (call.isClosed) return;
  }
  begin();
  call.end(fieldsOf(trailer));
}

function fieldsOf(headers: Headers | undefined): HeaderField[] {
  return headers === undefined ? [] : [...headers];
}
