/** Every command of the documents does what they say. */
import { execFile, spawnSync } from 'node:child_process';
import { promisify } from 'node:util';
import { readFileSync } from 'node:fs';
import { Broker } from '@naru/broker';
import { describe, expect, it } from 'vitest';

const needed = ['bash', 'curl'];
const missing = needed.filter((program) => spawnSync(program, ['--version']).error !== undefined);

interface Example {
  readonly command: string;
  /** The answer; `…` stands for any text. */
  readonly answer: unknown;
}

function examplesOf(document: string): Example[] {
  return [...document.matchAll(/^```sh\n(.*?)^```\n\n^```json\n(.*?)^```$/gms)].map(
    ([, command = '', answer = '']): Example => ({ command, answer: JSON.parse(answer) }),
  );
}

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

/** What later commands name. */
function namesIn(answer: unknown): { SESSION?: string; REQUEST?: string; PRODUCER?: string } {
  const {
    sessionId,
    producerId,
    results = [],
  } = answer as { sessionId?: string; producerId?: string; results?: { requestId?: string }[] };
  const requestId = results[0]?.requestId;
  return {
    ...(sessionId !== undefined && { SESSION: sessionId }),
    ...(producerId !== undefined && { PRODUCER: producerId }),
    ...(requestId !== undefined && { REQUEST: requestId }),
  };
}

describe.each([
  // In delivery.md other commands come before those for curl.
  ['http.md', ''],
  ['delivery.md', '\n## By curl\n'],
  ['transactions.md', '\n## By curl\n'],
])('docs/%s', (name, heading) => {
  const whole = readFileSync(new URL(`../docs/${name}`, import.meta.url), 'utf8');
  const document = whole.slice(whole.indexOf(heading));
  const examples = examplesOf(document);

  it('has an answer for every command', () => {
    const commands = document.match(/^```sh$/gm) ?? [];
    expect(examples.length).toBe(commands.length);
    expect(examples.length).toBeGreaterThanOrEqual(10);
  });

  it.skipIf(missing.length > 0)(`every command answers as documented (needs ${needed.join(', ')})`, async () => {
    await using broker = await Broker.start({ storage: 'memory', port: 0 });
    let names = {};
    for (const { command, answer } of examples) {
      const given = await run(command.replaceAll('localhost:9092', broker.bootstrap), names);
      expect({ command, given }).toEqual({ command, given: pattern(answer) });
      names = { ...names, ...namesIn(given) };
    }
  });
});
