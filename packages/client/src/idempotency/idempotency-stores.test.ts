import { PGlite } from '@electric-sql/pglite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { VirtualTime } from '../testing/virtual-time.ts';
import type { IdempotencyStore } from './idempotency-store.ts';
import { memoryIdempotency } from './memory-idempotency.ts';
import { idempotencyTable, once, postgresIdempotency } from './postgres-idempotency.ts';

const TABLE = 'app.handled "events"';
let database: PGlite;

beforeAll(async () => {
  database = await PGlite.create();
  await database.query('CREATE SCHEMA app');
  await database.exec(idempotencyTable(TABLE));
}, 30_000);

afterAll(() => database.close());

/** Goes past leases and windows of `ms`. */
async function passInDatabase(ms: number): Promise<void> {
  await database.query(
    `UPDATE app."handled ""events""" SET lease_until = lease_until - $1 * interval '1 millisecond',
       done_at = done_at - $1 * interval '1 millisecond'`,
    [ms],
  );
}

function inMemory() {
  const clock = new VirtualTime();
  return { store: memoryIdempotency({ clock, windowMs: 1_000_000 }), pass: (ms: number) => clock.advance(ms) };
}

function inPostgres() {
  return { store: postgresIdempotency({ pool: database, table: TABLE, windowMs: 1_000_000 }), pass: passInDatabase };
}

describe.each([
  ['memory', inMemory],
  ['postgres', inPostgres],
])('ids in %s', (name, make) => {
  const group = `group-${name}`;

  async function claimed(store: IdempotencyStore, id: string): Promise<string> {
    const result = await store.claim(group, id, 60_000);
    if (result.state !== 'claimed') throw new Error(`${id} is ${result.state}`);
    return result.token;
  }

  it('are one caller’s until it completes, then done; of another group they are others', async () => {
    const { store } = make();
    const token = await claimed(store, 'a');
    expect(await store.claim(group, 'a', 60_000)).toMatchObject({ state: 'busy', untilMs: expect.any(Number) });
    expect(await store.claim(`${group}-2`, 'a', 60_000)).toMatchObject({ state: 'claimed' });
    await store.complete(group, 'a', token);
    expect(await store.claim(group, 'a', 60_000)).toEqual({ state: 'done' });
  });

  it('are free when they are released', async () => {
    const { store } = make();
    await store.release(group, 'b', await claimed(store, 'b'));
    expect(await store.claim(group, 'b', 60_000)).toMatchObject({ state: 'claimed' });
  });

  it('go to somebody else after the lease, and what the first one says counts no longer', async () => {
    const { store, pass } = make();
    const late = await claimed(store, 'c');
    await pass(60_001);
    const token = await claimed(store, 'c');
    await store.complete(group, 'c', late);
    await store.release(group, 'c', late);
    expect(await store.claim(group, 'c', 60_000)).toMatchObject({ state: 'busy' });
    await store.complete(group, 'c', token);
    expect(await store.claim(group, 'c', 60_000)).toEqual({ state: 'done' });
  });

  it('are forgotten after the window', async () => {
    const { store, pass } = make();
    await store.complete(group, 'd', await claimed(store, 'd'));
    await pass(1_000_001);
    expect(await store.claim(group, 'd', 60_000)).toMatchObject({ state: 'claimed' });
  });

  it('are given to one of many who ask at once', async () => {
    const { store } = make();
    const results = await Promise.all(Array.from({ length: 20 }, () => store.claim(group, 'e', 60_000)));
    expect(results.filter(({ state }) => state === 'claimed')).toHaveLength(1);
  });
});

describe('once', () => {
  it('does the work with the user’s own transaction, or not at all', async () => {
    await database.query('CREATE TABLE charges (event_id text)');
    const charge = (id: string, fails: boolean) =>
      database.transaction((client) =>
        once(
          client,
          'payment',
          { id },
          async () => {
            await client.query('INSERT INTO charges VALUES ($1)', [id]);
            if (fails) throw new Error('card declined');
            return 'charged';
          },
          { table: TABLE },
        ),
      );
    await expect(charge('x', true)).rejects.toThrow('card declined');
    expect(await charge('x', false)).toEqual({ duplicate: false, result: 'charged' });
    expect(await charge('x', false)).toEqual({ duplicate: true });
    const { rows } = await database.query('SELECT event_id FROM charges');
    expect(rows).toEqual([{ event_id: 'x' }]);
  });

  it('does the work of an event that the subscriber’s store has claimed in the same table, and that once', async () => {
    const store = postgresIdempotency({ pool: database, table: TABLE });
    const claim = await store.claim('stock', 'y', 60_000);
    const work = () =>
      database.transaction((client) => once(client, 'stock', { id: 'y' }, () => 'done', { table: TABLE }));
    expect(await work()).toEqual({ duplicate: false, result: 'done' });
    expect(await work()).toEqual({ duplicate: true });
    if (claim.state === 'claimed') await store.complete('stock', 'y', claim.token);
    expect(await store.claim('stock', 'y', 60_000)).toEqual({ state: 'done' });
  });
});
