import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { runCommandLine } from './program.ts';
import { testTerminal } from './test-terminal.ts';

async function run(...args: string[]) {
  const terminal = testTerminal();
  const exitCode = await runCommandLine(args, terminal);
  return { exitCode, out: terminal.out(), err: terminal.err() };
}

describe('the command line', () => {
  it('ends with 0 and prints help on stdout when asked for help', async () => {
    const { exitCode, out, err } = await run('--help');
    expect(exitCode).toBe(0);
    for (const name of ['start', 'topic', 'publish', 'consume', 'group', 'trace', 'dlq', 'doctor', 'completion'])
      expect(out).toContain(`\n  ${name}`);
    expect(err).toBe('');
  });

  it('prints its version', async () => {
    expect(await run('--version')).toEqual({ exitCode: 0, out: '0.1.0\n', err: '' });
  });

  it.each([
    { args: [], says: 'Usage: naru' },
    { args: ['topic'], says: 'Usage: naru topic' },
    { args: ['publsh'], says: "unknown command 'publsh'\n(Did you mean publish?)" },
    { args: ['topic', 'creat', 'x'], says: "unknown command 'creat'\n(Did you mean create?)" },
    { args: ['start', '--prot', '1'], says: "unknown option '--prot'\n(Did you mean --port?)" },
    { args: ['start', '--port', '70000'], says: 'Expected a whole number from 0 to 65535' },
    { args: ['start', '--storage', 'tape'], says: 'Allowed choices are file, memory' },
    { args: ['topic', 'list', '-o', 'xml'], says: 'Allowed choices are table, json' },
    { args: ['topic', 'list', '--broker', 'a b'], says: 'Expected HOST:PORT' },
    { args: ['topic', 'create'], says: "missing required argument 'name'" },
    { args: ['topic', 'create', 'a', '--partitions', '0'], says: 'Expected a whole number from 1 to 10000' },
    { args: ['topic', 'add-partitions', 'a'], says: "required option '--to <number>' not specified" },
    { args: ['publish', 'a', 'b'], says: 'expected - for stdin' },
    { args: ['publish', 'a', '-', '--value', '1'], says: 'choose --value or -' },
    { args: ['publish', 'a', '--value', '1', '--file', 'f'], says: 'cannot be used with' },
    { args: ['publish', 'a', '--key', 'k', '--key-field', '/k'], says: 'cannot be used with' },
    { args: ['publish', 'a', '--key-field', 'k'], says: 'Expected a JSON pointer' },
    { args: ['consume', 'a', '--from', 'middle'], says: 'Expected beginning, end, an offset' },
    { args: ['consume', 'a', '--commit', 'auto'], says: '--commit needs --group' },
    { args: ['consume', 'a', '--idle-exit', 'soon'], says: 'Expected a duration' },
    { args: ['group', 'reset-offsets', 'g'], says: 'say where to' },
    { args: ['dlq', 'redrive', 'g'], says: 'say which' },
    { args: ['dlq', 'redrive', 'g', '--all', '--key', 'k'], says: 'choose --all' },
    { args: ['dlq', 'redrive', 'g', '--all', '--rate', 'fast'], says: 'Expected a whole number from 1' },
    { args: ['dlq', 'purge', 'g', '--all', '--resume', 'x'], says: 'Expected a cursor' },
    { args: ['dlq', 'show', 'g'], says: "missing required argument 'id'" },
    { args: ['trace'], says: 'name one event' },
    { args: ['trace', 'orders/0'], says: 'Expected TOPIC/PARTITION/OFFSET or a request id' },
    { args: ['trace', 'orders/0/1', '--ce-id', 'x'], says: 'name one event' },
    { args: ['trace', 'orders/0/1', '--topic', 'x'], says: 'need --ce-id' },
    { args: ['group', 'reset-offsets', 'g', '--to-end', '--to-offset', '1'], says: 'cannot be used with' },
  ])('ends with 2, on stderr alone, for $args', async ({ args, says }) => {
    const { exitCode, out, err } = await run(...args);
    expect(err).toContain(says);
    expect({ exitCode, out }).toEqual({ exitCode: 2, out: '' });
  });

  it('ends with 1 and names the code of what failed', async () => {
    const { exitCode, out, err } = await run('publish', 'a', '--value', '{"a":');
    expect({ exitCode, out }).toEqual({ exitCode: 1, out: '' });
    expect(err).toMatch(/^error: not JSON: .*\(SERIALIZATION\)\n$/);
  });

  it('says it again for programs with -o json', async () => {
    const { err } = await run('start', '--config', 'there-is-no-such-file.yaml', '-o', 'json');
    const [people, programs] = err.split('\n');
    expect(people).toMatch(/^error: .*\(INVALID_CONFIGURATION\)$/);
    const message = 'cannot read settings from there-is-no-such-file.yaml: no such file';
    expect(JSON.parse(programs ?? '')).toEqual({ error: { code: 'INVALID_CONFIGURATION', message } });
  });

  it('prints the effective settings as YAML that it reads back', async () => {
    const { exitCode, out } = await run('start', '--port', '1234', '--data', 'a: b', '--print-config');
    expect(exitCode).toBe(0);
    const { parse } = await import('yaml');
    const { broker } = parse(out) as { broker: unknown };
    expect(broker).toMatchObject({ port: 1234, data: 'a: b', host: '127.0.0.1', storage: 'file' });
    const { brokerConfig } = await import('@naru/broker');
    const read = brokerConfig(broker as Parameters<typeof brokerConfig>[0]);
    expect(read).toEqual(brokerConfig({ port: 1234, data: 'a: b' }));
  });

  it('says of each effective setting where it is from, and masks secrets', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'naru-print-config-'));
    onTestFinished(() => rm(directory, { recursive: true }));
    const file = join(directory, 'naru.yaml');
    const text = [
      'clientId: shop',
      'broker:',
      '  data: here',
      '  host: 127.0.0.1',
      '  log: { segmentBytes: 1MiB }',
      'environments:',
      '  prod:',
      '    clientId: shop-prod',
      '    broker: { data: there, workers: 1 }',
    ];
    await writeFile(file, text.join('\n'));
    const terminal = testTerminal();
    const environment = {
      NARU_STORAGE: 'postgres',
      NARU_POSTGRES_URL: 'postgres://me:secret@db/naru',
      NARU_ENV: 'prod',
    };
    const args = ['start', '--config', file, '--port', '77', '--allow-remote', '--print-config'];
    expect(await runCommandLine(args, { ...terminal, environment })).toBe(0);
    const printed = terminal.out().replaceAll(directory, '');
    expect(printed).toContain('  data: there  # /naru.yaml:9\n');
    expect(printed).toContain('  host: "127.0.0.1"  # /naru.yaml:4\n');
    expect(printed).toContain('    segmentBytes: 1048576  # /naru.yaml:5\n');
    expect(printed).toContain('  port: 77  # --port\n');
    expect(printed).toContain('  allowRemote: true  # --allow-remote\n');
    expect(printed).toContain('  storage: postgres  # environment variable NARU_STORAGE\n');
    expect(printed).toContain('    maxMembers: 1000  # default\n');
    expect(printed).toContain('    url: "postgres://me:***@db/naru"  # environment variable NARU_POSTGRES_URL\n');
    expect(printed).not.toContain('secret');
  });

  it.each([
    ['workers: 2', 'naru.yaml:1:20: workers: expected 1: shards on several threads are not supported yet'],
    ['prot: 1', 'naru.yaml:1:11: unknown setting "prot"; did you mean "port"?'],
    [
      'storage: sqlit',
      'naru.yaml:1:20: storage: Invalid option: expected one of "file"|"memory"|"sqlite"|"postgres"; did you mean "sqlite"?',
    ],
    [
      'log: { maxBatchBytes: 9MiB }',
      /^naru\.yaml:1:33: log\.maxBatchBytes: expected at most 8MiB, which is what one write to the log takes\n/,
    ],
    ['log: { journalFileBytes: 21MB }', 'naru.yaml:1:36: log.journalFileBytes: expected a multiple of 4KiB'],
    [
      'log: { journalBytes: 64MiB }',
      /^naru\.yaml:1:32: log\.journalBytes: expected three files of journalFileBytes \(67108864\) or more, got 67108864\n/,
    ],
    [
      'retention: { timeMs: soon }',
      /^naru\.yaml:1:32: retention\.timeMs: expected a number with a unit .* got "soon"$/,
    ],
    [
      'limits: { kafkaRequestBytes: 16MiB }',
      'naru.yaml:1:40: limits.kafkaRequestBytes: expected less than 16MiB: larger ones could not be told from other protocols',
    ],
    ['kafka: 5', 'naru.yaml:1:18: kafka: Invalid input: expected object, received number'],
  ])('refuses the broker’s setting %s, and says where', async (setting, expected) => {
    const directory = await mkdtemp(join(tmpdir(), 'naru-print-config-'));
    onTestFinished(() => rm(directory, { recursive: true }));
    const file = join(directory, 'naru.yaml');
    await writeFile(file, `broker: { ${setting} }`);
    const { exitCode, err } = await run('start', '--config', file, '--print-config');
    expect(exitCode).toBe(1);
    const line = err
      .replaceAll(`${directory}/`, '')
      .replace(/^error: /, '')
      .replace(/ \(INVALID_CONFIGURATION\)\n$/, '');
    expect(line).toEqual(typeof expected === 'string' ? expected : expect.stringMatching(expected));
  });

  it('refuses an environment that the file does not have', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'naru-print-config-'));
    onTestFinished(() => rm(directory, { recursive: true }));
    const file = join(directory, 'naru.yaml');
    await writeFile(file, 'environments: { prod: {}, test: {} }');
    const { err } = await run('start', '--config', file, '--print-config', '--env', 'tset');
    expect(err).toContain('naru.yaml:1:15: no environment "tset"; did you mean "test"?');
  });
});
