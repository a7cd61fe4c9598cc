/** `naru dlq` and `naru trace` against a broker on which a group has given three events up. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { naru, startBroker, type BrokerProcess, type Outcome } from './naru-process.ts';

interface Printed {
  readonly what: string;
  readonly deadLetter: { readonly id: string };
}

let broker: BrokerProcess;
/** Request ids, by offset. */
let ids: string[];

beforeAll(async () => {
  broker = await startBroker('--storage', 'memory');
  await run('topic', 'create', 'jobs', '--partitions', '1', '--type', 'parallel');
  const records = [1, 2, 3].map((number) => ({ keyText: `j-${number}`, valueJson: { number } }));
  const { results } = await call<{ results: { requestId: string }[] }>('PublisherService/Publish', {
    topic: 'jobs',
    records,
  });
  ids = results.map(({ requestId }) => requestId);
  const start = { beginning: true };
  const join = { groupId: 'mailing', topics: ['jobs'], start };
  const { sessionId } = await call<{ sessionId: string }>('SubscriberService/Join', join);
  await call('SubscriberService/Poll', { sessionId, maxWaitMs: 20_000 });
  const kind = 'SETTLEMENT_KIND_REJECT';
  const settlements = ids.map((requestId) => ({ requestId, kind, reason: 'no such address' }));
  await call('SubscriberService/Ack', { sessionId, settlements });
});
afterAll(async () => {
  await broker[Symbol.asyncDispose]();
});

const run = (...args: string[]): Promise<Outcome> => naru(args, '', { NARU_BROKERS: broker.address });

async function call<T>(method: string, body: object): Promise<T> {
  const headers = { 'content-type': 'application/json' };
  const url = `http://${broker.address}/naru.v1.${method}`;
  const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${method}: ${response.status} ${await response.text()}`);
  return (await response.json()) as T;
}

const printed = ({ out }: Outcome): Printed[] =>
  out
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Printed);

describe('naru trace', () => {
  it('tells an event’s story, by request id and by place', async () => {
    const byId = await run('trace', ids[0] ?? '');
    expect(byId).toMatchObject({ exitCode: 0, err: '' });
    expect(byId.out).toMatch(/^stored {6}jobs\/0\/0 at \d{4}-.*Z, \d+ bytes$/m);
    expect(byId.out).toMatch(/^mailing: dead-lettered at .*Z as \w+, after 1 attempt \(no such address\)$/m);
    const byPlace = await run('trace', 'jobs/0/0', '-o', 'json');
    const groups = [{ group: 'mailing', state: 'dead-lettered', attempts: 1, deadLetterId: ids[0] }];
    expect(JSON.parse(byPlace.out)).toMatchObject({ requestId: ids[0], topic: 'jobs', key: 'j-1', groups });
  });

  it('ends with 1 for an event that never was', async () => {
    const { exitCode, out, err } = await run('trace', 'jobs/7/0');
    expect({ exitCode, out }).toEqual({ exitCode: 1, out: '' });
    expect(err).toContain('UNKNOWN_TOPIC_OR_PARTITION');
  });
});

describe('naru dlq', () => {
  it('lists, also a page at a time, and shows the whole event', async () => {
    const listed = await run('dlq', 'list', 'mailing');
    expect(listed).toMatchObject({ exitCode: 0, err: '' });
    expect(listed.out.split('\n')).toHaveLength(5);
    expect(listed.out).toMatch(new RegExp(`^${ids[0]} +jobs/0/0 .* dead .* no such address`, 'm'));
    const first = await run('dlq', 'list', 'mailing', '--limit', '2', '-o', 'json');
    const page = JSON.parse(first.out) as { total: number; deadLetters: { id: string }[]; nextCursor: string };
    expect(page).toMatchObject({ total: 3, deadLetters: [{ id: ids[0] }, { id: ids[1] }] });
    const second = await run('dlq', 'list', 'mailing', '--cursor', page.nextCursor, '-o', 'json');
    expect(JSON.parse(second.out)).toMatchObject({ deadLetters: [{ id: ids[2] }], nextCursor: null });
    expect((await run('dlq', 'list', 'mailing', '--reason', 'another')).err).toContain(
      'no such dead letters; 3 in all',
    );

    const shown = await run('dlq', 'show', 'mailing', ids[1] ?? '', '-o', 'json');
    const { deadLetter, event } = JSON.parse(shown.out) as { deadLetter: object; event: { headers: object[] } };
    expect(deadLetter).toMatchObject({ id: ids[1], group: 'mailing', state: 'dead', attempts: 1 });
    expect(event).toMatchObject({ topic: 'jobs', offset: 1, key: 'j-2', value: { number: 2 } });
    expect(event.headers).toContainEqual({ key: 'naru-dlq-reason', value: 'no such address' });
    const text = await run('dlq', 'show', 'mailing', ids[1] ?? '');
    expect(text.out).toMatch(/^reason {9}no such address$/m);
    expect(text.out).toContain('{\n  "number": 2\n}\n');
    const unknown = await run('dlq', 'show', 'mailing', 'nope');
    expect(unknown.exitCode).toBe(1);
  });

  it('redrives what was there, in steps that can be resumed, and purges the rest', async () => {
    const dry = await run('dlq', 'redrive', 'mailing', '--all', '--dry-run', '-o', 'json');
    expect(dry.exitCode).toBe(0);
    expect(printed(dry).map(({ what, deadLetter }) => [what, deadLetter.id])).toEqual(
      ids.map((id) => ['would be redriven', id]),
    );
    expect(dry.err).toBe('3 dead letters would be redriven; nothing was changed: without --dry-run it does it\n');

    const one = await run('dlq', 'redrive', 'mailing', '--all', '--limit', '1', '-o', 'json');
    expect(printed(one).map(({ what, deadLetter }) => [what, deadLetter.id])).toEqual([['redriven', ids[0]]]);
    const resume = /--resume (\S+)/.exec(one.err)?.[1] ?? '';
    const next = await run('dlq', 'redrive', 'mailing', '--all', '--limit', '1', '--resume', resume);
    expect(next).toMatchObject({ exitCode: 0, out: `${ids[1]}  jobs/0/1  no such address\n` });

    const refused = await run('dlq', 'redrive', 'mailing', ids[0] ?? '', 'nonsense');
    expect(refused.exitCode).toBe(1);
    expect(refused.err).toContain('refused: nonsense');

    const planned = await run('dlq', 'purge', 'mailing', ids[2] ?? '');
    expect(planned).toMatchObject({ exitCode: 0, out: `${ids[2]}  jobs/0/2  no such address\n` });
    expect(planned.err).toBe('1 dead letter would be purged; nothing was changed: --execute does it\n');
    const purged = await run('dlq', 'purge', 'mailing', ids[2] ?? '', '--execute');
    expect(purged).toMatchObject({ exitCode: 0, err: 'purged 1 dead letter\n' });
    const left = await run('dlq', 'list', 'mailing', '-o', 'json');
    const letters = [ids[0], ids[1]].map((id) => expect.objectContaining({ id, state: 'redriven' }) as unknown);
    expect(JSON.parse(left.out)).toMatchObject({ deadLetters: letters });
  });
});
