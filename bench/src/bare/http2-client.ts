/** The client's side of bare node:http2 streams. */
import { connect } from 'node:http2';
import type { ClientHttp2Session } from 'node:http2';
import type { LoadResult } from '../measurement.ts';
import { VALUE_BYTES, sampleBatch } from '../payload.ts';
import { CONNECTION_WINDOW_BYTES, clientSettings } from '../load/http2-options.ts';

export interface Http2ClientOptions {
  readonly port: number;
}

export async function openHttp2Client({ port }: Http2ClientOptions) {
  const session = connect(`http://127.0.0.1:${port}`, { settings: clientSettings });
  await new Promise<void>((resolve, reject) => {
    session.once('connect', () => resolve());
    session.once('error', reject);
  });
  session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
  return {
    ready: {},
    commands: {
      send: ({ seconds }: { seconds: number }) => send(session, seconds),
      receive: ({ seconds }: { seconds: number }) => receive(session, seconds),
    },
    close: () => session.destroy(),
  };
}

/** Bytes for `seconds`, and until the server has answered to the last. */
function send(session: ClientHttp2Session, seconds: number): Promise<LoadResult> {
  const { bytes, events } = sampleBatch();
  const stream = session.request({ ':method': 'POST', ':path': '/' });
  const startMs = performance.now();
  const endMs = startMs + seconds * 1_000;
  let sent = 0;
  const more = (): void => {
    while (performance.now() < endMs) {
      sent += 1;
      if (!stream.write(bytes)) return;
    }
    stream.end();
  };
  return new Promise((resolve, reject) => {
    stream.on('drain', more);
    stream.on('error', reject);
    stream.on('data', () => {});
    stream.on('end', () => resolve(result(sent * events, startMs)));
    more();
  });
}

function receive(session: ClientHttp2Session, seconds: number): Promise<LoadResult> {
  const { bytes, events } = sampleBatch();
  const stream = session.request({ ':method': 'GET', ':path': '/' });
  const startMs = performance.now();
  let received = 0;
  return new Promise((resolve, reject) => {
    stream.on('error', reject);
    stream.on('data', (chunk: Buffer) => {
      received += chunk.length;
    });
    setTimeout(() => {
      resolve(result(Math.floor((received / bytes.length) * events), startMs));
      stream.close();
    }, seconds * 1_000);
  });
}

function result(events: number, startMs: number): LoadResult {
  return { events, bytes: events * VALUE_BYTES, seconds: (performance.now() - startMs) / 1_000 };
}
