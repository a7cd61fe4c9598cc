import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Broker, type DoctorReport } from '@naru/broker';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runCommandLine } from '../program.ts';
import { testTerminal } from '../test-terminal.ts';

let directory: string;
let data: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'naru-doctor-command-'));
  data = join(directory, 'data');
  const broker = await Broker.start({ port: 0, data, storage: 'file' });
  await broker.close();
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

async function doctor(...args: string[]) {
  return doctorIn({}, ...args);
}

async function doctorIn(environment: Record<string, string>, ...args: string[]) {
  const terminal = { ...testTerminal(), environment };
  const exitCode = await runCommandLine(['doctor', ...args], terminal);
  return { exitCode, out: terminal.out(), err: terminal.err() };
}

describe('naru doctor', () => {
  it('ends with 0 for a sound directory, and prints nothing on stdout but what was asked for', async () => {
    const { exitCode, out, err } = await doctor('--data', data);
    expect({ exitCode, out }).toEqual({ exitCode: 0, out: '' });
    expect(err).toMatch(/: verified \d+ partitions?, .*\nsound; 0 warnings, 0 notes\n$/);
    const json = await doctor('--data', data, '--deep', '-o', 'json');
    expect({ exitCode: json.exitCode, err: json.err }).toEqual({ exitCode: 0, err: '' });
    expect(JSON.parse(json.out)).toMatchObject({ path: data, isSound: true, isCleanStop: true, findings: [] });
  });

  it('ends with 1, and says what, where and what to do, when there are problems', async () => {
    const [name = ''] = await readdir(join(data, 'checkpoint'));
    await writeFile(join(data, 'checkpoint', name), 'something else');
    const { exitCode, out, err } = await doctor('--data', data);
    expect(exitCode).toBe(1);
    expect(out).toMatch(
      /^SEVERITY +FILE +BYTE +PARTITION +OFFSETS +CAUSE\nproblem +checkpoint\/\d+\.ckpt +- .*damaged/,
    );
    expect(out).toContain(`\ncheckpoint/${name}: A broker refuses to start.`);
    expect(err).toContain('1 problem;');
    const json = await doctor('--data', data, '-o', 'json');
    expect(json.exitCode).toBe(1);
    const { findings } = JSON.parse(json.out) as DoctorReport;
    expect(findings).toEqual([expect.objectContaining({ severity: 'problem', file: `checkpoint/${name}` })]);
  });

  it('ends with 1 for a directory that a broker uses, or that is none', async () => {
    const broker = await Broker.start({ port: 0, data, storage: 'file' });
    const used = await doctor('--data', data);
    await broker.close();
    expect({ exitCode: used.exitCode, out: used.out }).toEqual({ exitCode: 1, out: '' });
    expect(used.err).toMatch(/a broker is running.*\(DATA_DIRECTORY_IN_USE\)/);
    expect((await doctor('--data', directory)).exitCode).toBe(1);
  });

  it('looks where the settings say, unless they say that there is nothing to look at', async () => {
    expect((await doctorIn({ NARU_DATA: data })).exitCode).toBe(0);
    const { exitCode, err } = await doctorIn({ NARU_STORAGE: 'memory' });
    expect(exitCode).toBe(1);
    expect(err).toContain('keeps nothing in a directory');
  });

  it('ends with 2 for what it does not understand', async () => {
    const { exitCode, out } = await doctor('--data');
    expect({ exitCode, out }).toEqual({ exitCode: 2, out: '' });
  });
});
