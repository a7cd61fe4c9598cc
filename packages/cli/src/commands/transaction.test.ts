import { Broker } from '@naru/broker';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runCommandLine } from '../program.ts';
import { testTerminal } from '../test-terminal.ts';

let broker: Broker;
/** What the command takes for now; milliseconds since the Unix epoch. */
let nowMs: number;

beforeEach(async () => {
  nowMs = 0;
  broker = await Broker.start({ storage: 'memory', port: 0 });
  await call('AdminService/CreateTopic', { name: 'orders', partitionCount: 2 });
});

afterEach(() => broker.close());

async function call<T>(method: string, body: object): Promise<T> {
  const headers = { 'content-type': 'application/json' };
  const url = `http://${broker.bootstrap}/naru.v1.${method}`;
  const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${method}: ${response.status} ${await response.text()}`);
  return (await response.json()) as T;
}

async function run(...args: string[]) {
  const terminal = { ...testTerminal(), clock: { nowMs: () => nowMs, monotonicMs: () => nowMs } };
  const exitCode = await runCommandLine([...args, '--broker', broker.bootstrap], terminal);
  return { exitCode, out: terminal.out(), err: terminal.err() };
}

const transaction = (...args: string[]) => run('transaction', ...args);

function words(text: string): string[][] {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => line.trim().split(/ {2,}/));
}

/** Opens one with two events in each partition. */
async function open(transactionalId: string): Promise<{ producerId: string; producerEpoch: number }> {
  const identity = await call<{ producerId: string; producerEpoch: number }>('TransactionService/InitTransactions', {
    transactionalId,
  });
  const records = [0, 1, 0, 1].map((partition) => ({ valueText: transactionalId, partition }));
  const ref = { transactionalId, ...identity };
  const { results } = await call<{ results: object[] }>('PublisherService/Publish', {
    topic: 'orders',
    records,
    transaction: ref,
  });
  expect(results.filter((result) => 'error' in result)).toEqual([]);
  return identity;
}

interface Described {
  readonly started: string;
  readonly partitionDetails: readonly object[];
}

describe('naru transaction', () => {
  it('lists ids, by state and by how long they are open', async () => {
    expect(await transaction('list')).toMatchObject({ exitCode: 0, err: 'there are no such transactional ids\n' });
    const { producerId, producerEpoch } = await open('shop');
    await call('TransactionService/InitTransactions', { transactionalId: 'idle', timeoutMs: 90_000 });
    const { started } = JSON.parse((await transaction('describe', 'shop', '-o', 'json')).out) as Described;
    nowMs = Date.parse(started) + 125_000;
    const { out } = await transaction('list');
    expect(words(out).map((row) => row.slice(0, 7))).toEqual([
      ['ID', 'STATE', 'OPEN FOR', 'TIME-OUT', 'PARTITIONS', 'PRODUCER', 'EPOCH'],
      ['idle', 'empty', '-', '1m30s', '0', expect.any(String), '0'],
      ['shop', 'ongoing', '2m5s', '1m', '2', producerId, String(producerEpoch)],
    ]);
    const ids = async (...args: string[]) =>
      (JSON.parse((await transaction('list', '-o', 'json', ...args)).out) as { transactionalId: string }[]).map(
        ({ transactionalId }) => transactionalId,
      );
    expect(await ids('--state', 'empty', 'committed')).toEqual(['idle']);
    expect(await ids('--state', 'ongoing')).toEqual(['shop']);
    expect(await ids('--open-for', '1h')).toEqual([]);
    expect(await transaction('list', '--state', 'lost')).toMatchObject({ exitCode: 2 });
  });

  it('describes what is open, and what readers do not get because of it', async () => {
    await open('first');
    await open('shop');
    const { out } = await transaction('describe', 'shop');
    const [facts = '', rows = ''] = out.split('\n\n');
    expect(facts).toMatch(/^id {8}shop\nstate {5}ongoing\nopen for {2}\w+\ntime-out {2}1m\nproducer {2}\d+, epoch 0\n/);
    expect(words(rows)).toEqual([
      ['TOPIC', 'PARTITION', 'FIRST OFFSET', 'READ TO', 'END', 'WAITING'],
      ['orders', '0', '2', '0', '4', '2'],
      ['orders', '1', '2', '0', '4', '2'],
    ]);
    const described = JSON.parse((await transaction('describe', 'shop', '-o', 'json')).out) as Described;
    expect(described).toMatchObject({ transactionalId: 'shop', state: 'ongoing', timeoutMs: 60_000, groups: [] });
    expect(described.partitionDetails[0]).toEqual({
      topic: 'orders',
      partition: 0,
      firstOffset: 2,
      highWatermark: 4,
      lastStableOffset: 0,
      waiting: 2,
    });
    expect(await transaction('describe', 'nobody')).toMatchObject({
      exitCode: 1,
      err: expect.stringContaining('TRANSACTIONAL_ID_NOT_FOUND') as string,
    });
    const topic = await run('topic', 'describe', 'orders');
    expect(words(topic.out.split('\n\n')[1] ?? '').map((row) => row.slice(0, 4))).toEqual([
      ['PARTITION', 'START', 'END', 'STABLE'],
      ['0', '0', '4', '0'],
      ['1', '0', '4', '0'],
    ]);
  });

  it('aborts only when it is told to, after which readers go on', async () => {
    const identity = await open('shop');
    const shown = await transaction('abort', 'shop');
    expect(shown).toMatchObject({
      exitCode: 0,
      err: expect.stringMatching(/^shop has a transaction open for .*; nothing was changed: --execute/) as string,
    });
    const consumed = async (...args: string[]) => (await run('consume', 'orders', '--from', 'beginning', ...args)).out;
    expect(await consumed('--idle-exit', '200ms')).toBe('');
    expect((await consumed('--isolation', 'uncommitted', '--max', '4')).split('\n').length).toBe(5);
    const aborted = await transaction('abort', 'shop', '--execute', '-o', 'json');
    expect(JSON.parse(aborted.out)).toEqual({ transactionalId: 'shop', executed: true, aborted: true, open: true });
    expect((await transaction('abort', 'shop', '--execute')).err).toBe('shop had nothing open; fenced its producer\n');
    const ended = call('TransactionService/EndTransaction', {
      transaction: { transactionalId: 'shop', ...identity },
      commit: true,
    });
    await expect(ended).rejects.toThrow('PRODUCER_FENCED');
    await call('PublisherService/Publish', { topic: 'orders', records: [{ valueText: 'plain', partition: 0 }] });
    expect((await consumed('-o', 'table', '--max', '1')).trim()).toMatch(/plain$/);
    expect(await run('consume', 'orders', '--group', 'g', '--isolation', 'uncommitted')).toMatchObject({ exitCode: 2 });
  });
});
