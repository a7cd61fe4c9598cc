import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { naru, NaruProcess, startBroker, type BrokerProcess, type Outcome } from './naru-process.ts';

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
const jsonLines = (text: string): Record<string, unknown>[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

async function createTopic(name: string, partitions = 3): Promise<void> {
  const { exitCode, err } = await run(['topic', 'create', name, '--partitions', String(partitions)]);
  expect({ exitCode, err }).toEqual({
    exitCode: 0,
    err: `created topic ${name} (ordered, ${partitions} partition${partitions === 1 ? '' : 's'})\n`,
  });
}

async function lagOf(group: string): Promise<unknown> {
  const { out } = await run(['group', 'describe', group, '-o', 'json']);
  const { lag, members } = JSON.parse(out) as { lag: number; members: unknown[] };
  return { lag, members: members.length };
}

describe('publishing and consuming', () => {
  it('brings what one process published to another', async () => {
    await createTopic('orders');
    const single = await run(['publish', 'orders', '--key', 'k', '--header', 'a=b', '--value', '{"n": 1.10}']);
    expect(single.exitCode).toBe(0);
    const input = Array.from({ length: 100 }, (_, n) => `{"id":"c${n % 7}","n":${n}}\n`).join('');
    const published = await run(['publish', 'orders', '--key-field', '/id', '-o', 'json'], input);
    expect(published).toMatchObject({ exitCode: 0, err: 'published 100 events to orders\n' });
    const results = jsonLines(published.out);
    expect(results).toHaveLength(100);

    const consumed = await run(['consume', 'orders', '--from', 'beginning', '--max', '101']);
    expect(consumed).toMatchObject({ exitCode: 0, err: '' });
    const events = jsonLines(consumed.out);
    expect(events.find(({ requestId }) => requestId === single.out.trim())).toMatchObject({
      key: 'k',
      value: { n: 1.1 },
      headers: expect.arrayContaining([{ key: 'a', value: 'b' }]) as unknown,
    });
    for (const { requestId, partition, offset } of results) {
      expect(events.find((event) => event['requestId'] === requestId)).toMatchObject({ partition, offset });
    }
    for (let customer = 0; customer < 7; customer++) {
      const order = events.filter(({ key }) => key === `c${customer}`).map(({ value }) => (value as { n: number }).n);
      expect(order).toEqual([...order].sort((a, b) => a - b));
    }
  });

  it('names the lines that could not be published, and publishes the others', async () => {
    await createTopic('partly', 1);
    const { exitCode, out, err } = await run(['publish', 'partly', '-'], '1\nnot json\n2\n');
    expect({ exitCode, out }).toEqual({ exitCode: 1, out: '' });
    expect(err).toMatch(/^error: line 2: not JSON.*\npublished 2 events to partly; 1 failed \(line 2\)\n$/);
    const raw = await run(['publish', 'partly', '--raw'], 'not json\n');
    expect(raw.exitCode).toBe(0);
    const { out: consumed } = await run(['consume', 'partly', '--from', 'beginning', '--max', '3']);
    expect(jsonLines(consumed).map(({ value }) => value)).toEqual([1, 2, 'not json']);
  });

  it('says that a topic is not there', async () => {
    for (const args of [
      ['publish', 'absent', '--value', '1'],
      ['consume', 'absent'],
      ['topic', 'describe', 'absent'],
    ]) {
      const { exitCode, err } = await run(args);
      expect({ args, exitCode, err }).toMatchObject({
        exitCode: 1,
        err: expect.stringMatching(/^error: .*\(UNKNOWN_TOPIC_OR_PARTITION\)\n$/) as string,
      });
    }
  });

  it('commits on Ctrl-C what was printed, and leaves the group', async () => {
    await createTopic('interrupted');
    await using consumer = new NaruProcess(['consume', 'interrupted', '--group', 'g-interrupted'], environment);
    await run(['publish', 'interrupted'], '1\n2\n3\n');
    await consumer.outLines(3);
    consumer.child.kill('SIGINT');
    expect((await consumer.ended).exitCode).toBe(0);
    expect(await lagOf('g-interrupted')).toEqual({ lag: 0, members: 0 });
  });

  it('commits no further than --max', async () => {
    await createTopic('some');
    await run(['publish', 'some'], '1\n2\n3\n4\n5\n');
    const first = await run(['consume', 'some', '--group', 'g-some', '--max', '2']);
    expect(await lagOf('g-some')).toEqual({ lag: 3, members: 0 });
    const rest = await run(['consume', 'some', '--group', 'g-some', '--max', '3']);
    const values = [...jsonLines(first.out), ...jsonLines(rest.out)].map(({ value }) => value as number);
    expect(values.sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5]);
  });

  it('commits by hand what was printed when a line comes on stdin', async () => {
    await createTopic('manual', 1);
    await run(['publish', 'manual'], '1\n2\n');
    await using consumer = new NaruProcess(
      ['consume', 'manual', '--group', 'g-manual', '--commit', 'manual'],
      environment,
    );
    await consumer.outLines(2);
    expect(await lagOf('g-manual')).toEqual({ lag: 2, members: 1 });
    consumer.child.stdin.write('\n');
    await consumer.said(/committed manual\/0 to 2\n/);
    expect(await lagOf('g-manual')).toEqual({ lag: 0, members: 1 });
  });

  it('ends with 0 when nobody reads its output any more', async () => {
    await createTopic('unread', 1);
    await run(['publish', 'unread'], '1\n');
    await using consumer = new NaruProcess(['consume', 'unread', '--from', 'beginning'], environment);
    await consumer.outLines(1);
    consumer.child.stdout.destroy();
    await run(['publish', 'unread'], '2\n');
    expect(await consumer.ended).toMatchObject({ exitCode: 0, err: '' });
  });
});

describe('groups', () => {
  it('shows what a reset would do, does it when told to, and refuses while there are members', async () => {
    await createTopic('reset', 1);
    await run(['publish', 'reset'], '1\n2\n3\n');
    const args = ['group', 'reset-offsets', 'g-reset', '--to-offset', '1'];
    {
      await using consumer = new NaruProcess(['consume', 'reset', '--group', 'g-reset'], environment);
      await consumer.outLines(3);
      const refused = await run(args);
      expect(refused.err).toContain('(NON_EMPTY_GROUP)');
      expect(refused.exitCode).toBe(1);
      consumer.child.kill('SIGINT');
      await consumer.ended;
    }
    const changes = [{ topic: 'reset', partition: 0, from: 3, to: 1 }];
    expect(JSON.parse((await run([...args, '-o', 'json'])).out)).toEqual({ executed: false, changes });
    expect(await lagOf('g-reset')).toEqual({ lag: 0, members: 0 });
    expect(JSON.parse((await run([...args, '--execute', '-o', 'json'])).out)).toEqual({ executed: true, changes });
    expect(await lagOf('g-reset')).toEqual({ lag: 2, members: 0 });

    expect((await run(['group', 'delete', 'g-reset'])).exitCode).toBe(0);
    expect((await run(['group', 'describe', 'g-reset'])).err).toContain('(GROUP_ID_NOT_FOUND)');
  });
});
