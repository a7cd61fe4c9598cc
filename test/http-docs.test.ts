/** Every command of docs/http.md does what the document says. */
import { execFile, spawnSync } from 'node:child_process';
import { promisify } from 'node:util';
import { readFileSync } from 'node:fs';
import { Broker } from '@naru/broker';
import { expect, it } from 'vitest';

const document = readFileSync(new URL('../docs/http.md', import.meta.url), 'utf8');
const needed = ['bash', 'curl'];
const missing = needed.filter((program) => spawnSync(program, ['--version']).error !== undefined);

interface Example {
  readonly command: string;
  /** The answer; `…` stands for any text. */
  readonly answer: unknown;
}

const examples = [...document.matchAll(/^```sh\n(.*?)^```\n\n^```json\n(.*?)^```$/gms)].map(
  ([, command = '', answer = '']): Example => ({ command, answer: JSON.parse(answer) }),
);

const execute = promisify(execFile);

async function run(command: string, environment: Readonly<Record<string, string>>): Promise<unknown> {
  const { stdout } = await execute('bash', ['-c', command], { env: { ...process.env, ...environment } });
  return JSON.parse(stdout) as unknown;
}

/** What the document shows, as a pattern: fields that it leaves out may be there. */
function pattern(documented: unknown): unknown {
  if (documented === '…') return expect.any(String);
  if (Array.isArray(documented)) return documented.map(pattern);
  if (typeof documented !== 'object' || documented === null) return documented;
  const fields = Object.entries(documented).map(([name, value]) => [name, pattern(value)]);
  return expect.objectContaining(Object.fromEntries(fields));
}

function idOf(answer: unknown): string | undefined {
  return (answer as { sessionId?: string }).sessionId;
}

it('has an answer for every command', () => {
  const commands = document.match(/^```sh$/gm) ?? [];
  expect(examples.length).toBe(commands.length);
  expect(examples.length).toBeGreaterThanOrEqual(10);
});

it.skipIf(missing.length > 0)(`every command answers as documented (needs ${needed.join(', ')})`, async () => {
  await using broker = await Broker.start({ storage: 'memory', port: 0 });
  let session = '';
  for (const { command, answer } of examples) {
    const given = await run(command.replaceAll('localhost:9092', broker.bootstrap), { SESSION: session });
    expect({ command, given }).toEqual({ command, given: pattern(answer) });
    session = idOf(given) ?? session;
  }
});
