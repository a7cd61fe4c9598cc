/**
 * A member of a group on a bare stream, without the SDK: takes batches as they come and says at once that all is done, once for
 * each answer. What is left is what the broker does for an ordered topic (commits) and for a parallel one (settlements).
 */
import { connect } from 'node:http2';
import { create, fromBinary, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { frameOf, GrpcFrameReader } from '@naru/protocol/grpc-frames';
import { readBatchHeader, splitBatches } from '@naru/protocol/batch';
import {
  SettlementKind,
  SubscribeRequestSchema,
  SubscribeResponseSchema,
  type Acquired,
  type PartitionRecords,
  type Records,
} from '@naru/protocol/proto';
import { CONNECTION_WINDOW_BYTES, clientSettings } from './http2-options.ts';
import { Received } from './received.ts';

const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;
const POLLS_IN_FLIGHT = 2;
const POLL_WAIT_MS = 10_000;

export interface RawSubscriberOptions {
  readonly port: number;
  readonly topic: string;
  readonly group: string;
  /** Of an answer; default as the broker has it. */
  readonly pollBytes?: number | undefined;
}

type Request = NonNullable<MessageInitShape<typeof SubscribeRequestSchema>['message']>;

export function openRawSubscriber({ port, topic, group, pollBytes = 0 }: RawSubscriberOptions) {
  const session = connect(`http://127.0.0.1:${port}`, { settings: clientSettings });
  session.on('connect', () => session.setLocalWindowSize(CONNECTION_WINDOW_BYTES));
  const received = new Received();
  const stream = session.request({
    ':method': 'POST',
    ':path': '/naru.v1.SubscriberService/Subscribe',
    'content-type': 'application/grpc+proto',
    te: 'trailers',
  });
  let ids = 1;
  const send = (message: Request): void => {
    const bytes = toBinary(SubscribeRequestSchema, create(SubscribeRequestSchema, { message }));
    for (const piece of frameOf([bytes])) stream.write(piece);
  };
  const poll = (): void =>
    send({ case: 'poll', value: { pollId: ids++, maxBytes: pollBytes, maxWaitMs: POLL_WAIT_MS } });
  const take = ({ partitions, acquired }: Records): void => {
    poll();
    if (partitions.length > 0) {
      const commits = partitions.map((records) => ({ ...refOf(records), offset: takeOrdered(records, received) }));
      send({ case: 'commit', value: { commitId: ids++, partitions: commits } });
    }
    if (acquired.length > 0) {
      const settled = acquired.map((records) => ({ ...refOf(records), records: takeAcquired(records, received) }));
      send({ case: 'settle', value: { settleId: ids++, partitions: settled } });
    }
  };
  const reader = new GrpcFrameReader(MAX_MESSAGE_BYTES);
  stream.on('error', (error) => received.fail(error));
  stream.on('data', (chunk: Buffer) => {
    reader.push(chunk, (bytes) => {
      const { message } = fromBinary(SubscribeResponseSchema, bytes);
      if (message.case === 'records') take(message.value);
      const refusal = message.case === 'settled' ? message.value.refused[0]?.error : undefined;
      if (refusal !== undefined) received.fail(new Error(`${refusal.code}: ${refusal.message}`));
    });
  });
  return {
    ready: {},
    commands: {
      /** Joins the group; what comes is counted from now on. */
      start: () => {
        const start = { position: { case: 'beginning', value: true } } as const;
        send({ case: 'join', value: { groupId: group, memberId: 'raw', topics: [topic], start } });
        for (let index = 0; index < POLLS_IN_FLIGHT; index++) poll();
      },
      until: ({ events }: { events: number }) => received.until(events),
    },
    close: () => session.destroy(),
  };
}

function refOf({ partition }: Pick<PartitionRecords, 'partition'>) {
  return partition === undefined ? {} : { partition };
}

/** Returns the offset after the last. */
function takeOrdered({ batches }: PartitionRecords, received: Received): bigint {
  let next = 0;
  for (const batch of splitBatches(batches)) {
    const { baseOffset, lastOffsetDelta, recordCount } = readBatchHeader(batch);
    received.batch(batch, recordCount);
    next = baseOffset + lastOffsetDelta + 1;
  }
  return BigInt(next);
}

function takeAcquired({ batches, ranges }: Acquired, received: Received) {
  let events = 0;
  for (const { offsets } of ranges) events += Number((offsets?.to ?? 0n) - (offsets?.from ?? 0n));
  received.batch(batches, events);
  return ranges.map(({ offsets }) => ({
    ...(offsets === undefined ? {} : { offsets }),
    kind: SettlementKind.ACCEPT,
  }));
}
