import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { naru, NaruProcess, startBroker } from './naru-process.ts';

const scratch = mkdtempSync(join(tmpdir(), 'naru-cli-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const errorLines = (err: string): string[] => err.split('\n').filter((line) => line.startsWith('error: '));

describe('naru start', () => {
  it('says where it serves, ends with 0 on SIGTERM, and has everything after a restart', async () => {
    const data = join(scratch, 'restart');
    await using first = await startBroker('--data', data);
    await first.command.said(new RegExp(`^naru serves on ${first.address} \\(file storage in ${data}\\)$`, 'm'));
    await naru(['topic', 'create', 'kept', '--broker', first.address]);
    await naru(['publish', 'kept', '--value', '{"n":1}', '--broker', first.address]);
    first.command.child.kill('SIGTERM');
    expect((await first.command.ended).exitCode).toBe(0);

    await using second = await startBroker('--data', data);
    const args = ['consume', 'kept', '--from', 'beginning', '--max', '1', '--broker', second.address];
    const { exitCode, out } = await naru(args);
    expect(exitCode).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ topic: 'kept', offset: 0, value: { n: 1 } });
  });

  it('refuses a data directory that another broker has', async () => {
    const data = join(scratch, 'taken');
    await using first = await startBroker('--data', data);
    const { exitCode, err } = await naru(['start', '--port', '0', '--data', data]);
    expect(exitCode).toBe(1);
    expect(first.command.child.exitCode).toBeNull();
    expect(errorLines(err)).toEqual([expect.stringMatching(/in use by another broker.*\(DATA_DIRECTORY_IN_USE\)$/)]);
  });

  it('refuses a port that is in use, and a data directory that cannot be', async () => {
    await using broker = await startBroker('--storage', 'memory');
    const port = broker.address.split(':').at(-1) ?? '';
    const inUse = await naru(['start', '--storage', 'memory', '--port', port]);
    expect(inUse.exitCode).toBe(1);
    expect(errorLines(inUse.err)).toEqual([expect.stringMatching(/^error: port \d+ .*is in use.*\(PORT_IN_USE\)$/)]);

    writeFileSync(join(scratch, 'a-file'), '');
    const notWritable = await naru(['start', '--port', '0', '--data', join(scratch, 'a-file')]);
    expect(notWritable.exitCode).toBe(1);
    expect(errorLines(notWritable.err)).toEqual([expect.stringMatching(/\(DATA_DIRECTORY_NOT_WRITABLE\)$/)]);
  });

  it('names line and column of what is wrong in a settings file', async () => {
    const file = join(scratch, 'bad.yaml');
    writeFileSync(file, 'broker:\n  port: many\n');
    const { exitCode, err } = await naru(['start', '--config', file]);
    expect(exitCode).toBe(1);
    expect(err).toContain(`${file}:2:9: port:`);
  });

  it('ends at once when no broker is there to talk to', async () => {
    await using broker = await startBroker('--storage', 'memory');
    broker.command.child.kill('SIGTERM');
    await broker.command.ended;
    const { exitCode, err } = await naru(['topic', 'list', '--broker', broker.address]);
    expect(exitCode).toBe(1);
    expect(err).toMatch(/^error: no broker answers: .*\(NETWORK\)\n$/);
  });

  it('takes its settings from the environment', async () => {
    await using process = new NaruProcess(['start', '--print-config'], { NARU_PORT: '4321' });
    expect((await process.ended).out).toMatch(/^ {2}port: 4321 {2}# environment variable NARU_PORT$/m);
  });
});

describe('the cache of compiled code', () => {
  const version = (environment: NodeJS.ProcessEnv) =>
    naru(['--version'], '', { NODE_COMPILE_CACHE: '', ...environment });
  const fine = { exitCode: 0, err: '', out: expect.stringMatching(/\d+\.\d+\.\d+/) as string };

  it('is below the user’s cache directory', async () => {
    const home = join(scratch, 'home');
    mkdirSync(home);
    expect(await version({ XDG_CACHE_HOME: home })).toEqual(fine);
    expect(readdirSync(join(home, 'naru/compiled'))).toHaveLength(1);
    expect(await version({ XDG_CACHE_HOME: '', HOME: home })).toEqual(fine);
    expect(readdirSync(join(home, '.cache/naru/compiled'))).toHaveLength(1);
  });

  it('is done without where it cannot be made', async () => {
    const file = join(scratch, 'file');
    writeFileSync(file, '');
    expect(await version({ XDG_CACHE_HOME: file })).toEqual(fine);
    for (const home of [file, '/proc/nonexistent']) {
      expect(await version({ XDG_CACHE_HOME: '', HOME: home })).toEqual(fine);
    }
  });
});
