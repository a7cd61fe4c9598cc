/** The schema registry in its shard: answers that wait for the disk, starts after a kill, and a log that stays short. */
import { partitionKey, type PartitionKey } from '@naru/base';
import { SeededRandom, SimDisk, VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { SchemaCommandOf, SchemaCommandType } from '../core/schema-registry/index.ts';
import { openFileLogStore } from '../log/file/file-log-store.ts';
import { HeldStore } from './held-store.ts';
import { INTERNAL_TOPICS, SCHEMA_LOG_TOPIC } from './internal-topics.ts';
import { GROUP_LOG, ORDERS, sampleTopic, ShardScenario } from './shard-scenario.ts';
import { finished, turns, watched } from './settling.ts';

const SCHEMA_LOG = { ...sampleTopic(SCHEMA_LOG_TOPIC), config: INTERNAL_TOPICS[SCHEMA_LOG_TOPIC]?.config ?? {} };
const LOG: PartitionKey = partitionKey(SCHEMA_LOG.id, 0);
const MIB = 1024 * 1024;
const LIMITS = {
  journalFileBytes: 4 * MIB,
  journalBytes: 16 * MIB,
  maxAppendBytes: MIB,
  mergedFrameBytes: MIB,
  checkpointBytes: 3 * MIB,
};

let clock: VirtualClock;
let disk: SimDisk;
let running: ShardScenario | null;
let held: HeldStore;

beforeEach(() => {
  clock = new VirtualClock();
  disk = new SimDisk(new SeededRandom(3));
  running = null;
});

afterEach(async () => {
  if (running !== null) await settled(running.shard.close());
});

function settled<T>(promise: Promise<T>): Promise<T> {
  return finished(promise, clock);
}

async function start(topics = [GROUP_LOG, ORDERS, SCHEMA_LOG]): Promise<void> {
  const random = new SeededRandom(1);
  held = new HeldStore(openFileLogStore({ disk, path: '/data', clock, timers: clock, random, limits: LIMITS }));
  running = await settled(ShardScenario.start({ store: held.store, time: clock, topics }));
}

/** As if the process ended without a word, or with its last checkpoint. */
async function restart(isKill: boolean): Promise<void> {
  held.keepsLastSnapshot = !isKill;
  await settled((running as ShardScenario).shard.close());
  running = null;
  if (isKill) disk = disk.processKill(new SeededRandom(4));
  await start();
}

function send<T extends SchemaCommandType>(command: SchemaCommandOf<T>): Promise<unknown> {
  return (running as ShardScenario).submit({ type: 'schemas', command });
}

function ask<T extends SchemaCommandType>(command: SchemaCommandOf<T>): Promise<unknown> {
  return settled(send(command));
}

function registration(subject: string, text: string): SchemaCommandOf<'register'> {
  const schema = { type: 'AVRO', text, references: [], normalize: false } as const;
  return { type: 'register', subject, schema, id: null, version: null };
}

const LIST = { type: 'list-schemas', prefix: '', deleted: true, latestOnly: false } as const;
const record = (name: string, doc = ''): string => JSON.stringify({ type: 'record', name, doc, fields: [] });

describe('the schema registry of a shard', () => {
  it.each([
    ['after a kill', true],
    ['from its last checkpoint', false],
  ])('is there again %s', async (_, isKill) => {
    await start();
    await ask(registration('a', record('A')));
    await ask(registration('b', record('B')));
    await ask({ type: 'set-compatibility', scope: 'a', level: 'FULL' });
    await ask({ type: 'delete-version', subject: 'a', version: 1, permanent: false });
    const before = await ask(LIST);
    for (let round = 0; round < 3; round++) {
      await restart(isKill);
      expect(await ask(LIST)).toEqual(before);
      expect(await ask({ type: 'get-compatibility', scope: 'a', defaultToGlobal: false })).toBe('FULL');
      // The deletion is part of what was kept.
      expect(await ask({ type: 'list-subjects', prefix: '', deleted: false, deletedOnly: false })).toEqual(['b']);
    }
    expect(await ask(registration('c', record('C')))).toEqual({ id: 3 });
  });

  it('answers when what it shows is durable, questions too', async () => {
    await start();
    await ask(registration('a', record('A')));
    held.isHeld = true;
    const written = watched(send(registration('b', record('B'))));
    const read = watched(send(LIST));
    await turns(50);
    expect([written, read]).toEqual([{}, {}]);
    held.isHeld = false;
    held.release();
    await turns(50);
    expect(written).toEqual({ value: { id: 2 } });
    expect(read.value).toHaveLength(2);
  });

  it('refuses changes when the disk is full, and answers questions', async () => {
    await start();
    await ask(registration('a', record('A')));
    held.say({ state: 'full', reason: 'the disk is full' });
    expect(await ask(registration('b', record('B')))).toEqual({ code: 'STORAGE_FULL', message: 'the disk is full' });
    expect(await ask(LIST)).toHaveLength(1);
    held.say(null);
    expect(await ask(registration('b', record('B')))).toEqual({ id: 2 });
  });

  it('is not there without its log', async () => {
    await start([GROUP_LOG, ORDERS]);
    expect(await ask(LIST)).toMatchObject({ code: 'NOT_READY' });
  });

  it('keeps its log short, and what was deleted stays deleted', async () => {
    await start();
    await ask(registration('kept', record('Kept')));
    const doc = 'x'.repeat(200 * 1024);
    let written = 0;
    for (let i = 0; i < 24; i++) {
      await ask(registration('passing', record(`Passing${i}`, doc)));
      await ask({ type: 'delete-subject', subject: 'passing', permanent: false });
      await ask({ type: 'delete-subject', subject: 'passing', permanent: true });
      written += doc.length;
      clock.advance(60_000);
      await turns(200);
    }
    const { sizeBytes = 0 } = held.store.info(LOG) ?? {};
    expect(sizeBytes).toBeGreaterThan(0);
    expect(sizeBytes).toBeLessThan(written / 2);
    for (const isKill of [true, false]) {
      await restart(isKill);
      expect(await ask(LIST)).toMatchObject([{ subject: 'kept', version: 1, id: 1 }]);
      expect(await ask({ type: 'get-schema', id: 2 })).toMatchObject({ refused: 'SCHEMA_NOT_FOUND' });
    }
    expect(await ask(registration('next', record('Next')))).toEqual({ id: 26 });
  });
});
