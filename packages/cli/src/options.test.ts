import { InvalidArgumentError } from 'commander';
import { describe, expect, it } from 'vitest';
import { collectHeader, integerReader, readBrokers, readDuration, readPosition, readTime } from './options.ts';

describe('option values', () => {
  it('reads brokers, and adds the port that is missing', () => {
    expect(readBrokers('example.org:9000')).toBe('example.org:9000');
    expect(readBrokers('a, b:1,[::1]:2,[::1]')).toBe('a:9092,b:1,[::1]:2,[::1]:9092');
  });

  it.each(['', 'a b', 'a:', 'a:0', 'a:65536', 'a:1:2', 'http://a:1', '::1', 'a,,b'])(
    'refuses the broker %j',
    (text) => {
      expect(() => readBrokers(text)).toThrow(InvalidArgumentError);
    },
  );

  it('reads whole numbers within bounds, both included', () => {
    const read = integerReader(1, 10);
    expect([read('1'), read('10')]).toEqual([1, 10]);
    for (const text of ['0', '11', '1.5', '-1', '1e1', '0x2', '', ' 1'])
      expect(() => read(text)).toThrow('from 1 to 10');
  });

  it('reads positions by their form', () => {
    expect(readPosition('beginning')).toBe('beginning');
    expect(readPosition('end')).toBe('end');
    expect(readPosition('42')).toBe(42n);
    expect(readPosition('2026-01-31T08:00:00Z')).toEqual(new Date(Date.UTC(2026, 0, 31, 8)));
  });

  it.each(['start', '-1', '1.5', '9007199254740992', '2026-13-01', 'yesterday'])('refuses the position %j', (text) => {
    expect(() => readPosition(text)).toThrow(InvalidArgumentError);
  });

  it('reads a date as midnight UTC, and an offset from UTC as such', () => {
    expect(readTime('2026-01-31').getTime()).toBe(Date.UTC(2026, 0, 31));
    expect(readTime('2026-01-31T08:00+09:00').getTime()).toBe(Date.UTC(2026, 0, 30, 23));
    expect(() => readTime('31 January 2026')).toThrow(InvalidArgumentError);
  });

  it('reads durations with units', () => {
    expect(readDuration('1.5s')).toBe(1500);
    expect(() => readDuration('soon')).toThrow(InvalidArgumentError);
  });

  it('collects headers in order, repeated keys and = in values included', () => {
    const headers = ['a=1', 'a=2=3', 'b='].reduce<ReturnType<typeof collectHeader>>(
      (all, text) => collectHeader(text, all),
      [],
    );
    const texts = headers.map(({ key, value }) => [key, Buffer.from(value).toString()]);
    expect(texts).toEqual([
      ['a', '1'],
      ['a', '2=3'],
      ['b', ''],
    ]);
    expect(() => collectHeader('=x')).toThrow(InvalidArgumentError);
    expect(() => collectHeader('x')).toThrow(InvalidArgumentError);
  });
});
