import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { naru, startBroker, type BrokerProcess, type Outcome } from './naru-process.ts';

let broker: BrokerProcess;
let environment: { NARU_BROKERS: string };

beforeAll(async () => {
  broker = await startBroker('--storage', 'memory');
  environment = { NARU_BROKERS: broker.address };
});
afterAll(async () => {
  await broker[Symbol.asyncDispose]();
});

const run = (args: string[], input?: string): Promise<Outcome> => naru(args, input, environment);

describe('naru topic config', () => {
  it('shows every setting, changes some, and says what is wrong', async () => {
    await run(['topic', 'create', 'orders', '--partitions', '1', '--config', 'retention.ms=2d']);
    const shown = await run(['topic', 'config', 'orders']);
    expect(shown).toMatchObject({ exitCode: 0, err: '' });
    expect(shown.out).toMatch(/^retention\.ms +172800000 +topic /m);
    expect(shown.out).toMatch(/^cleanup\.policy +delete +default /m);
    const changed = await run([
      'topic',
      'config',
      'orders',
      '--set',
      'retention.bytes=1GiB',
      '--set',
      'cleanup.policy=compact,delete',
      '--unset',
      'retention.ms',
      '-o',
      'json',
    ]);
    expect(changed).toMatchObject({ exitCode: 0, err: 'changed 3 settings of topic orders\n' });
    const set = (JSON.parse(changed.out) as { name: string; value: string; isSet: boolean }[]).filter((e) => e.isSet);
    expect(set.map(({ name, value }) => `${name}=${value}`)).toEqual([
      'cleanup.policy=compact,delete',
      'retention.bytes=1073741824',
    ]);
    const wrong = await run(['topic', 'config', 'orders', '--set', 'retention.ms=soon']);
    expect(wrong.exitCode).toBe(1);
    expect(wrong.err).toContain('INVALID_CONFIG');
    expect(wrong.err).toContain('retention.ms: expected a number with a unit');
    expect((await run(['topic', 'config', 'orders', '--set', 'retention.ms'])).exitCode).toBe(2);
  });
});

describe('naru topic delete-records', () => {
  it('shows what it would do, and does it when told to', async () => {
    await run(['topic', 'create', 'visits', '--partitions', '1']);
    await run(['publish', 'visits'], '1\n2\n3\n4\n5\n');
    const start = async (): Promise<unknown> => {
      const { out } = await run(['topic', 'describe', 'visits', '-o', 'json']);
      return (JSON.parse(out) as { partitionDetails: { logStartOffset: unknown }[] }).partitionDetails[0]
        ?.logStartOffset;
    };
    const shown = await run(['topic', 'delete-records', 'visits', '--before', '2']);
    expect(shown).toMatchObject({ exitCode: 0, err: 'nothing was changed: --execute does it\n' });
    expect(Number(await start())).toBe(0);
    const done = await run(['topic', 'delete-records', 'visits', '--before', '2', '--partition', '0', '--execute']);
    expect(done).toMatchObject({ exitCode: 0, err: 'deleted the oldest events of topic visits\n' });
    expect(Number(await start())).toBe(2);
    const all = await run(['topic', 'delete-records', 'visits', '--before', 'end', '--execute', '-o', 'json']);
    expect(JSON.parse(all.out)).toMatchObject({ executed: true, deletions: [{ partition: 0 }] });
    expect(Number(await start())).toBe(5);
    const again = await run(['topic', 'delete-records', 'visits', '--before', 'end', '--execute']);
    expect(again).toMatchObject({ exitCode: 0, err: 'nothing to delete\n' });
    expect((await run(['topic', 'delete-records', 'visits'])).exitCode).toBe(2);
  });
});
