/**
 * The bare limit of streams with connect: the broker's own methods and messages, with nothing behind them.
 *
 * PublishStream answers batches as fast as they come, those that came together in one message as the broker's door does.
 * Subscribe sends a batch again and again; with `relay`, what came through PublishStream, as it came.
 */
import { createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { PublisherService, SubscriberService } from '@naru/protocol/proto';
import type {
  PartitionRecords,
  PublishAck,
  PublishStreamRequest,
  PublishStreamResponse,
  SubscribeResponse,
} from '@naru/protocol/proto';
import { sampleBatch } from '../payload.ts';
import { Channel } from './channel.ts';
import { serverSettings, widen } from './http2-options.ts';

/** Batches that a relay holds. */
const RELAY_BATCHES = 64;
const NO_TOPIC = new Uint8Array(16);

export interface ConnectServerOptions {
  readonly relay: boolean;
}

export async function openConnectServer({ relay }: ConnectServerOptions) {
  const relayed = new Channel<Uint8Array>(RELAY_BATCHES);
  const server = createServer(
    { settings: serverSettings },
    connectNodeAdapter({
      routes: (router) => {
        router.rpc(PublisherService.method.publishStream, (requests) => acknowledge(requests, relay ? relayed : null));
        router.rpc(SubscriberService.method.subscribe, () => (relay ? sendRelayed(relayed) : sendSample()));
      },
      readMaxBytes: 64 * 1024 * 1024,
    }),
  );
  server.on('session', widen);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    ready: { port: (server.address() as AddressInfo).port },
    commands: {},
    close: () => {
      relayed.end();
      server.close();
    },
  };
}

async function* acknowledge(
  requests: AsyncIterable<PublishStreamRequest>,
  relayed: Channel<Uint8Array> | null,
): AsyncIterable<PublishStreamResponse> {
  const acks = new Channel<PublishAck>(Number.POSITIVE_INFINITY);
  const reading = readBatches(requests, acks, relayed).finally(() => acks.end());
  for (let ready = await acks.takeAll(); ready !== null; ready = await acks.takeAll()) {
    const value = { $typeName: 'naru.v1.PublishAcks', acks: ready } as const;
    yield { $typeName: 'naru.v1.PublishStreamResponse', message: { case: 'acks', value } };
  }
  await reading;
}

async function readBatches(
  requests: AsyncIterable<PublishStreamRequest>,
  acks: Channel<PublishAck>,
  relayed: Channel<Uint8Array> | null,
): Promise<void> {
  for await (const { message } of requests) {
    if (message.case !== 'batch') continue;
    const { correlationId, records } = message.value;
    const full = relayed?.push(records) ?? null;
    if (full !== null) await full;
    void acks.push({ $typeName: 'naru.v1.PublishAck', correlationId, baseOffset: 0n });
  }
}

// Async since connect takes streams of answers as async iterables only.
// oxlint-disable-next-line require-await
async function* sendSample(): AsyncIterable<SubscribeResponse> {
  const { bytes } = sampleBatch();
  for (;;) yield recordsMessage([bytes]);
}

async function* sendRelayed(relayed: Channel<Uint8Array>): AsyncIterable<SubscribeResponse> {
  for (let ready = await relayed.takeAll(); ready !== null; ready = await relayed.takeAll()) yield recordsMessage(ready);
}

function recordsMessage(batches: readonly Uint8Array[]): SubscribeResponse {
  const partitions = batches.map(
    (batch, partition): PartitionRecords => ({
      $typeName: 'naru.v1.PartitionRecords',
      partition: { $typeName: 'naru.v1.PartitionRef', topicId: NO_TOPIC, partition },
      batches: batch,
      highWatermark: 0n,
    }),
  );
  const value = { $typeName: 'naru.v1.Records', pollId: 0, partitions } as const;
  return { $typeName: 'naru.v1.SubscribeResponse', message: { case: 'records', value } };
}
