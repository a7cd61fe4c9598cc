import { describe, expect, it } from 'vitest';
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
    for (const name of ['start', 'topic', 'publish', 'consume', 'group', 'doctor', 'completion'])
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
});
