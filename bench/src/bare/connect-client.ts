/** The client's side of bare streams with connect: sends a batch again and again, or takes what comes. */
import { createClient } from '@connectrpc/connect';
import { Http2SessionManager, createGrpcTransport } from '@connectrpc/connect-node';
import { PublisherService, SubscriberService } from '@naru/protocol/proto';
import type { PublishStreamRequest, SubscribeRequest } from '@naru/protocol/proto';
import { latencyHistogram, latencyOf, recordMs, sharedNowMs } from '../measurement.ts';
import type { LoadResult } from '../measurement.ts';
import { pace } from '../load/pace.ts';
import { Received } from '../load/received.ts';
import { VALUE_BYTES, sampleBatch } from '../payload.ts';
import { Channel } from './channel.ts';
import { CONNECTION_WINDOW_BYTES, clientSettings } from '../load/http2-options.ts';

/** Bytes sent and not acknowledged, as the broker allows them. */
const MAX_IN_FLIGHT_BYTES = 8 * 1024 * 1024;
const NO_TOPIC = new Uint8Array(16);

export interface ConnectClientOptions {
  readonly port: number;
}

/** As the SDK does: the connection's window is as wide as its streams'. */
class WideSessions extends Http2SessionManager {
  override async request(
    ...args: Parameters<Http2SessionManager['request']>
  ): ReturnType<Http2SessionManager['request']> {
    const stream = await super.request(...args);
    stream.session?.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    return stream;
  }
}

export function openConnectClient({ port }: ConnectClientOptions) {
  const baseUrl = `http://127.0.0.1:${port}`;
  const sessions = new WideSessions(baseUrl, {}, { settings: clientSettings });
  const transport = createGrpcTransport({
    baseUrl,
    sessionManager: sessions,
    acceptCompression: [],
    readMaxBytes: 64 * 1024 * 1024,
  });
  const publisher = createClient(PublisherService, transport);
  const subscriber = createClient(SubscriberService, transport);
  const join = new Channel<SubscribeRequest>(1);
  let receiving: Promise<void> = Promise.resolve();
  const received = new Received();

  const receive = async (): Promise<void> => {
    void join.push({ $typeName: 'naru.v1.SubscribeRequest', message: { case: undefined } });
    const eventsInBatch = sampleBatch().events;
    for await (const { message } of subscriber.subscribe(join)) {
      if (message.case !== 'records') continue;
      for (const { batches } of message.value.partitions) received.batch(batches, eventsInBatch);
    }
  };

  return {
    ready: {},
    commands: {
      /** Batches for `seconds`, and until the last is acknowledged. */
      send: ({ seconds }: { seconds: number }) => send(publisher, seconds),
      /** Single small batches at a rate, stamped with the time. */
      sendPaced: ({ seconds, perSecond }: { seconds: number; perSecond: number }) =>
        sendPaced(publisher, seconds, perSecond),
      /** Begins to take what comes. */
      start: () => {
        receiving = receive().catch((error: unknown) => received.fail(error));
      },
      until: ({ events }: { events: number }) => received.until(events),
      during: ({ seconds }: { seconds: number }) => received.during(seconds),
      takeLatency: () => received.takeLatency(),
    },
    close: async () => {
      // Ended rather than broken off, which the server would complain about.
      join.end();
      await receiving;
      sessions.abort();
    },
  };
}

type Publisher = ReturnType<typeof createClient<typeof PublisherService>>;

async function send(publisher: Publisher, seconds: number): Promise<LoadResult> {
  const { bytes, events } = sampleBatch();
  const maxInFlight = Math.floor(MAX_IN_FLIGHT_BYTES / bytes.length);
  let sent = 0;
  let acknowledged = 0;
  const sender: { wake: (() => void) | null } = { wake: null };
  const startMs = performance.now();
  const endMs = startMs + seconds * 1_000;
  async function* requests(): AsyncGenerator<PublishStreamRequest> {
    while (performance.now() < endMs) {
      if (sent - acknowledged >= maxInFlight) {
        await new Promise<void>((resolve) => {
          sender.wake = resolve;
        });
        sender.wake = null;
      }
      sent += 1;
      yield batchMessage(sent, bytes);
    }
  }
  for await (const { message } of publisher.publishStream(requests())) {
    if (message.case !== 'acks') continue;
    acknowledged += message.value.acks.length;
    sender.wake?.();
  }
  if (acknowledged !== sent) throw new Error(`sent ${sent} batches, ${acknowledged} were acknowledged`);
  return { events: sent * events, bytes: sent * events * VALUE_BYTES, seconds: (performance.now() - startMs) / 1_000 };
}

async function sendPaced(publisher: Publisher, seconds: number, perSecond: number): Promise<LoadResult> {
  const messages = new Channel<PublishStreamRequest>(Number.POSITIVE_INFINITY);
  const histogram = latencyHistogram();
  const sentMs: number[] = [];
  const answered = (async () => {
    let next = 0;
    for await (const { message } of publisher.publishStream(messages)) {
      if (message.case !== 'acks') continue;
      for (let i = 0; i < message.value.acks.length; i++)
        recordMs(histogram, performance.now() - (sentMs[next++] as number));
    }
  })();
  const startMs = performance.now();
  const events = await pace(seconds, perSecond, () => {
    const batch = new Uint8Array(VALUE_BYTES);
    new DataView(batch.buffer).setFloat64(0, sharedNowMs());
    sentMs.push(performance.now());
    void messages.push(batchMessage(sentMs.length, batch));
  });
  messages.end();
  await answered;
  const elapsed = (performance.now() - startMs) / 1_000;
  return { events, bytes: events * VALUE_BYTES, seconds: elapsed, latency: latencyOf(histogram) };
}

function batchMessage(correlationId: number, records: Uint8Array): PublishStreamRequest {
  const value = {
    $typeName: 'naru.v1.PublishBatch',
    correlationId,
    topicId: NO_TOPIC,
    partition: correlationId % 6,
    records,
  } as const;
  return { $typeName: 'naru.v1.PublishStreamRequest', message: { case: 'batch', value } };
}
