/** The broker's settings: where a mistake is, and who wins. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isNaruError } from '@naru/protocol';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { brokerConfig, loadBrokerConfig, type BrokerConfigInput } from './config.ts';

let directory: string;
let file: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'naru-config-'));
  file = join(directory, 'naru.yaml');
});

afterEach(() => rm(directory, { recursive: true }));

async function problems(
  text: string,
  flags: BrokerConfigInput = {},
  environment: Record<string, string> = {},
): Promise<string[]> {
  await writeFile(file, text);
  const error: unknown = await loadBrokerConfig(file, flags, environment).catch((reason: unknown) => reason);
  if (!isNaruError(error, 'INVALID_CONFIGURATION')) throw new Error(`not refused: ${JSON.stringify(error)}`);
  return error.message.replaceAll(file, 'naru.yaml').split('\n');
}

describe('a bad setting', () => {
  it.each([
    ['that is unknown', 'broker:\n  prot: 1\n', 'naru.yaml:2:3: unknown setting "prot"'],
    [
      'inside a section',
      'broker:\n  log:\n    segmentBytes: 12\n',
      'naru.yaml:3:19: log.segmentBytes: expected 65536 or more, got 12',
    ],
    ['of the wrong kind', 'broker:\n  port: many\n', 'naru.yaml:2:9: port: '],
    ['beyond its bounds', 'broker: { port: 70000 }\n', 'naru.yaml:1:17: port: '],
    [
      'with an unknown unit',
      'broker:\n  groups:\n    sessionTimeoutMs: 5 fortnights\n',
      'naru.yaml:3:23: groups.sessionTimeoutMs: ',
    ],
    ['that is no YAML', 'broker:\n  port: [1\n', 'naru.yaml:'],
    ['that is not a list of settings', 'broker: 5\n', 'naru.yaml:1:9: broker: expected settings'],
    ['that is not supported yet', 'broker:\n  workers: 4\n', 'naru.yaml:2:12: workers: expected 1'],
    [
      'that does not fit another',
      'broker:\n  log:\n    journalBytes: 160MiB\n',
      'naru.yaml:3:19: log.journalBytes: expected three files',
    ],
    [
      'that would stop publishers for ever',
      'broker:\n  log:\n    checkpointBytes: 1GiB\n',
      'naru.yaml:3:22: log.checkpointBytes: ',
    ],
    [
      'beyond what one write takes',
      'broker:\n  log:\n    maxBatchBytes: 9MiB\n    journalFileBytes: 128MiB\n    journalBytes: 512MiB\n',
      'naru.yaml:3:20: log.maxBatchBytes: ',
    ],
    [
      'too large for a journal file',
      'broker:\n  log:\n    maxBatchBytes: 4MiB\n    journalFileBytes: 24MiB\n',
      'naru.yaml:3:20: log.maxBatchBytes: ',
    ],
    [
      'that is no multiple',
      'broker:\n  log:\n    journalFileBytes: 20971521\n',
      'naru.yaml:3:23: log.journalFileBytes: ',
    ],
  ])('%s is named with its line and column', async (_name, text, expected) => {
    const found = await problems(text);
    expect(found).toEqual([expect.stringContaining(expected)]);
    expect(found[0]?.indexOf(expected)).toBe(0);
  });

  it('does not hide the next one', async () => {
    expect(await problems('broker:\n  port: -1\n  storage: paper\n')).toHaveLength(2);
  });

  it('from the environment is named by its variable, and one from a flag as such', async () => {
    expect(await problems('broker: {}\n', {}, { NARU_PORT: 'x' })).toEqual([
      expect.stringMatching(/^environment variable NARU_PORT: port: /),
    ]);
    expect(await problems('broker: {}\n', { port: -1 })).toEqual([expect.stringMatching(/^settings: port: /)]);
  });

  it('is a file that was named and does not exist', async () => {
    await expect(loadBrokerConfig(join(directory, 'nope.yaml'), {}, {})).rejects.toMatchObject({
      code: 'INVALID_CONFIGURATION',
    });
  });
});

describe('settings', () => {
  it('are complete when nothing is said', () => {
    const config = brokerConfig();
    expect(config).toMatchObject({ host: '127.0.0.1', port: 9092, storage: 'file', allowRemote: false });
    expect(config.log).toMatchObject({ journalBytes: 256 * 1024 * 1024, segmentAgeMs: 7 * 86_400_000 });
    expect(brokerConfig(config)).toEqual(config);
  });

  it('come from the file, over it the environment, over that the flags', async () => {
    await writeFile(
      file,
      'broker:\n  port: 1\n  storage: memory\n  log: { segmentBytes: 1MiB }\nclient: { anything: 1 }\n',
    );
    const environment = { NARU_PORT: '2', NARU_HOST: 'localhost' };
    expect(await loadBrokerConfig(file, {}, environment)).toMatchObject({
      port: 2,
      host: 'localhost',
      storage: 'memory',
    });
    const config = await loadBrokerConfig(file, { port: 3, log: { cacheBytes: '2MiB' } }, environment);
    expect(config).toMatchObject({ port: 3, log: { segmentBytes: 1_048_576, cacheBytes: 2_097_152 } });
  });
});
