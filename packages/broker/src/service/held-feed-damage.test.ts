import { partitionKey, type TopicId } from '@naru/base';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import { expect, test } from 'vitest';
import type { Command, ShardClient } from '../runtime/commands.ts';
import type { WatchHeldCommand } from '../runtime/held-commands.ts';
import { turns } from '../runtime/settling.ts';
import { HeldFeed, MAX_GIVEN_EVENTS } from './held-feed.ts';

const PARTITION = partitionKey('00000000-0000-4000-8000-000000000001' as TopicId, 0);

test('events whose copies cannot be read take no room from others, and are not asked for again', async () => {
  const times = { notBeforeMs: 0, firstFailureMs: 0, lastFailureMs: 0, atMs: 0 };
  const event = { ...times, state: 'waiting', attempts: 1, reason: '', error: '', redrives: 0, sizeBytes: 10 } as const;
  const events = Array.from({ length: MAX_GIVEN_EVENTS }, (_, offset) => {
    return { offset, event: { ...event, keyId: `k${offset}`, copyOffset: offset } };
  });
  const asked: WatchHeldCommand[] = [];
  const submit = (command: Command): Promise<unknown> => {
    if (command.type === 'own-log') return Promise.resolve(PARTITION);
    if (command.type === 'fetch') return Promise.resolve({ code: 'DATA_CORRUPT', message: 'rot' });
    if (command.type !== 'watch-held') return Promise.resolve(null);
    asked.push(command);
    const version = { generation: 1, version: 1 };
    const news = { partition: PARTITION, version, isWhole: false, blocked: [], unblocked: [], events };
    return asked.length === 1 ? Promise.resolve([news]) : new Promise(() => {});
  };
  const feed = new HeldFeed({
    shard: { submit } as unknown as ShardClient,
    codecs: nodeCompressionCodecs,
    groupId: 'payment',
    emit: () => {},
    room: () => null,
    fail: () => {},
  });
  feed.add(PARTITION);
  await turns(500);
  expect(asked.map(({ maxEvents, hasNothing }) => [maxEvents, hasNothing])).toEqual([
    [MAX_GIVEN_EVENTS, true],
    [MAX_GIVEN_EVENTS, true],
  ]);
  expect(asked[1]?.partitions[0]?.given).toHaveLength(MAX_GIVEN_EVENTS);
  feed.close();
});
