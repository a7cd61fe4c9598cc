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
  Records,
  PublishAck,
  PublishStreamRequest,
  PublishStreamResponse,
  SubscribeRequest,
  SubscribeResponse,
} from '@naru/protocol/proto';
import { sampleBatch } from '../payload.ts';
import { Channel } from './channel.ts';
import { serverSettings, widen } from '../load/http2-options.ts';

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
        router.rpc(SubscriberService.method.subscribe, (requests) =>
          relay ? sendRelayed(requests, relayed) : sendSample(requests),
        );
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

/** Until the client ends its side. */
async function* sendSample(requests: AsyncIterable<SubscribeRequest>): AsyncIterable<SubscribeResponse> {
  const { bytes } = sampleBatch();
  const client = { isThere: true };
  const ended = untilEnd(requests, () => (client.isThere = false));
  while (client.isThere) yield recordsMessage([bytes]);
  await ended;
}

async function* sendRelayed(
  requests: AsyncIterable<SubscribeRequest>,
  relayed: Channel<Uint8Array>,
): AsyncIterable<SubscribeResponse> {
  const ended = untilEnd(requests, () => relayed.end());
  for (let ready = await relayed.takeAll(); ready !== null; ready = await relayed.takeAll())
    yield recordsMessage(ready);
  await ended;
}

async function untilEnd(requests: AsyncIterable<unknown>, then: () => void): Promise<void> {
  try {
    for await (const _ of requests);
  } finally {
    then();
  }
}

function recordsMessage(batches: readonly Uint8Array[]): SubscribeResponse {
  const partitions = batches.map((batch, partition): PartitionRecords => ({
    $typeName: 'naru.v1.PartitionRecords',
    partition: { $typeName: 'naru.v1.PartitionRef', topicId: NO_TOPIC, partition },
    batches: batch,
    highWatermark: 0n,
    withheld: [],
  }));
  const value: Records = { $typeName: 'naru.v1.Records', pollId: 0, partitions, acquired: [] };
  return { $typeName: 'naru.v1.SubscribeResponse', message: { case: 'records', value } };
}
