/** Every command of docs/schema-registry.md does what the document says. */
import { execFile, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { Broker } from '@naru/broker';
import { expect, it } from 'vitest';

const document = readFileSync(new URL('../docs/schema-registry.md', import.meta.url), 'utf8');
const needed = ['bash', 'curl'];
const missing = needed.filter((program) => spawnSync(program, ['--version']).error !== undefined);

const examples = [...document.matchAll(/^```sh\n(.*?)^```\n\n^```json\n(.*?)^```$/gms)].map(
  ([, command = '', answer = '']) => ({ command, answer: JSON.parse(answer) as unknown }),
);

const execute = promisify(execFile);

it('has an answer for every command', () => {
  expect(examples.length).toBe((document.match(/^```sh$/gm) ?? []).length);
  expect(examples.length).toBeGreaterThanOrEqual(30);
});

it.skipIf(missing.length > 0)(`every command answers as documented (needs ${needed.join(', ')})`, async () => {
  await using broker = await Broker.start({ storage: 'memory', port: 0 });
  for (const { command, answer } of examples) {
    const { stdout } = await execute('bash', ['-c', command.replaceAll('localhost:9092', broker.bootstrap)]);
    expect({ command, given: JSON.parse(stdout) as unknown }).toEqual({ command, given: answer });
  }
});
