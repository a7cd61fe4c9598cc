import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { loadSettings, parseSettings } from './settings-file.ts';
import { settingsSchema } from './settings.ts';

const defaults = settingsSchema.parse({});

function problemsOf(text: string, environment = {}): string[] {
  try {
    parseSettings(text, 'naru.yaml', environment);
  } catch (error) {
    expect(error).toMatchObject({ name: 'NaruError', code: 'INVALID_CONFIGURATION' });
    return (error as Error).message.split('\n');
  }
  throw new Error('these settings were accepted');
}

describe('settings', () => {
  it('have a default for everything', () => {
    expect(parseSettings('', 'naru.yaml')).toEqual(defaults);
    expect(defaults).toMatchObject({
      brokers: ['localhost:9092'],
      publisher: { lingerMs: 0, maxInFlight: 5, deliveryTimeoutMs: 120_000, compression: 'none' },
      subscriber: { concurrency: 1, autoCommit: true, autoCommitIntervalMs: 1_000, retry: { attempts: 5 } },
    });
  });

  it('take durations and sizes as text or numbers', () => {
    const text = [
      'brokers: [a:1, "b:2"]',
      'requestTimeoutMs: 5s',
      'publisher: { batchBytes: 16KiB, lingerMs: 3, retry: { initial: 1s, factor: 3 } }',
    ].join('\n');
    const settings = parseSettings(text, 'naru.yaml');
    expect(settings).toMatchObject({ brokers: ['a:1', 'b:2'], requestTimeoutMs: 5_000 });
    expect(settings.publisher).toMatchObject({ batchBytes: 16_384, lingerMs: 3 });
    expect(settings.publisher.retry).toEqual({ initialMs: 1_000, factor: 3, maxMs: 2_000, jitter: 0.2 });
  });

  it('leave the broker section to the broker', () => {
    expect(parseSettings('broker: { anything: goes }\nclientId: shop', 'naru.yaml')).toEqual({
      ...defaults,
      clientId: 'shop',
    });
  });

  it('say where they are wrong: line, column and setting', () => {
    const text = ['clientId: shop', 'publisher:', '  batchBytes: large', '  lingers: 5', 'brokers: []'].join('\n');
    const problems = problemsOf(text);
    expect(problems).toContainEqual(expect.stringMatching(/^naru\.yaml:3:15: publisher\.batchBytes: .*64KiB.*"large"/));
    expect(problems).toContainEqual('naru.yaml:4:3: unknown setting "publisher.lingers"; did you mean "lingerMs"?');
    expect(problems).toContainEqual('naru.yaml:5:10: brokers: expected at least one broker');
    expect(problems).toHaveLength(3);
  });

  it('say where YAML is broken', () => {
    expect(problemsOf('a: [1, 2\nb: 3')[0]).toMatch(/^naru\.yaml:\d+:\d+: /);
    expect(problemsOf('- not\n- settings')[0]).toContain('naru.yaml:1:1: expected settings');
  });

  it('are overridden by the environment, whose variable is named when it is wrong', () => {
    const environment = { NARU_BROKERS: 'x:1, y:2', NARU_PUBLISHER_LINGER: '7ms', NARU_SUBSCRIBER_CONCURRENCY: '4' };
    const settings = parseSettings('publisher: { lingerMs: 1, batchBytes: 2048 }', 'naru.yaml', environment);
    expect(settings).toMatchObject({
      brokers: ['x:1', 'y:2'],
      publisher: { lingerMs: 7, batchBytes: 2_048 },
      subscriber: { concurrency: 4 },
    });
    const wrong = problemsOf('', { NARU_PUBLISHER_COMPRESSION: 'rar' });
    expect(wrong[0]).toMatch(/^environment variable NARU_PUBLISHER_COMPRESSION: publisher\.compression: /);
  });

  it('passed by the program win over the environment', async () => {
    const settings = await loadSettings({ brokers: ['mine:1'] }, { NARU_BROKERS: 'theirs:1', NARU_CLIENT_ID: 'env' });
    expect(settings).toMatchObject({ brokers: ['mine:1'], clientId: 'env' });
    await expect(loadSettings({ brokers: ['no port: 1'] }, {})).rejects.toMatchObject({
      code: 'INVALID_CONFIGURATION',
      message: 'settings: brokers.0: expected host:port',
    });
  });

  it('are read from a file, which has to exist when it was named', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'naru-settings-'));
    onTestFinished(() => rm(directory, { recursive: true }));
    const file = join(directory, 'mine.yaml');
    await writeFile(file, 'clientId: from-file');
    expect((await loadSettings(file, {})).clientId).toBe('from-file');
    expect((await loadSettings(undefined, { NARU_CONFIG: file })).clientId).toBe('from-file');
    await expect(loadSettings(join(directory, 'none.yaml'), {})).rejects.toMatchObject({
      code: 'INVALID_CONFIGURATION',
      message: expect.stringContaining('no such file'),
    });
  });
});

describe('environments of a settings file', () => {
  const text = [
    'clientId: shop',
    'publisher: { lingerMs: 1, batchBytes: 2048 }',
    'catalog: events.yaml',
    'environments:',
    '  test: { clientId: shop-test, publisher: { lingerMs: 2 } }',
    '  prod: { publisher: { lingers: 2 } }',
  ].join('\n');

  it('are laid over the rest, under variables and what the program passes', () => {
    const settings = parseSettings(text, 'naru.yaml', { NARU_ENV: 'test' });
    expect(settings).toMatchObject({ clientId: 'shop-test', environment: 'test' });
    expect(settings.publisher).toMatchObject({ lingerMs: 2, batchBytes: 2_048 });
    const overridden = parseSettings(text, 'naru.yaml', { NARU_ENV: 'test', NARU_PUBLISHER_LINGER: '3' });
    expect(overridden.publisher.lingerMs).toBe(3);
    expect(parseSettings(`environment: test\n${text}`, 'naru.yaml').clientId).toBe('shop-test');
    expect(parseSettings(text, 'naru.yaml').clientId).toBe('shop');
  });

  it.each([
    [text, 'prod', 'naru.yaml:6:24: unknown setting "publisher.lingers"; did you mean "lingerMs"?'],
    [text, 'tset', 'naru.yaml:5:3: no environment "tset"; did you mean "test"?'],
    [text, 'nowhere', 'naru.yaml:5:3: no environment "nowhere"; there are test, prod'],
    ['environments: [test]', 'test', 'naru.yaml:1:15: environments: expected settings'],
    ['environments: { test: 5 }', 'test', 'naru.yaml:1:23: environments.test: expected settings'],
    [
      'environments: { test: { broker: 5, environments: {} } }',
      'test',
      'naru.yaml:1:36: unknown setting "environments"; did you mean "environment"?',
    ],
  ])('are refused where they are wrong: %#', (file, environment, problem) => {
    expect(problemsOf(file, { NARU_ENV: environment })).toEqual([problem]);
  });

  it('a catalog is found beside the file that names it', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'naru-settings-'));
    onTestFinished(() => rm(directory, { recursive: true }));
    const file = join(directory, 'mine.yaml');
    await writeFile(file, text);
    expect((await loadSettings(file, {})).catalog).toBe(join(directory, 'events.yaml'));
    expect((await loadSettings(file, { NARU_CATALOG: 'other.yaml' })).catalog).toBe('other.yaml');
    expect((await loadSettings({ catalog: './mine.yaml' }, {})).catalog).toBe('./mine.yaml');
  });
});
