import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { personLine, pinoLogger } from './pino-logger.ts';

it('writes a line of JSON for what its level lets through', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'naru-log-'));
  const file = join(directory, 'log');
  const fd = openSync(file, 'w');
  try {
    const logger = await pinoLogger({ level: 'warn', fd });
    logger.info({}, 'not this');
    logger.warn({ port: 1, error: new Error('reason') }, 'this');
    const lines = await vi.waitUntil(() => {
      const text = readFileSync(file, 'utf8');
      return text.endsWith('\n') ? text.trim().split('\n') : false;
    });
    expect(lines).toHaveLength(1);
    const line = JSON.parse(lines[0] ?? '') as Record<string, unknown>;
    expect(line).toMatchObject({ level: 'warn', port: 1, msg: 'this', error: { message: 'reason' } });
    expect(line).not.toHaveProperty('pid');
  } finally {
    closeSync(fd);
    rmSync(directory, { recursive: true });
  }
});

it('shortens lines for people', () => {
  const line = { level: 'info', time: '2026-01-31T08:00:00.123Z', host: '::1', path: 'a b', port: 9092, msg: 'serves' };
  expect(personLine(JSON.stringify(line))).toBe('08:00:00.123 info  serves host=::1 path="a b" port=9092\n');
});
