import { describe, expect, it } from 'vitest';
import { readEventInput } from './event-input.ts';
import { readPointer } from './json-pointer.ts';

const bytes = (text: string): Buffer => Buffer.from(text, 'utf8');

function keyAt(pointer: string, value: string): string | null {
  return readEventInput(bytes(value), { keyField: readPointer(pointer), raw: false }).key;
}

describe('a line as an event', () => {
  it('keeps its bytes, so that no digit of a number is lost', () => {
    const value = bytes('{"n": 12345678901234567890}');
    expect(readEventInput(value, { key: 'k', raw: false })).toEqual({ key: 'k', value });
  });

  it('is without a value for null', () => {
    expect(readEventInput(bytes('null'), { key: 'k', raw: false })).toEqual({ key: 'k', value: null });
  });

  it('is refused when it is not JSON or not UTF-8', () => {
    for (const value of [bytes('hello'), bytes('{"a":'), bytes(''), Buffer.from([0x22, 0xff, 0x22])]) {
      expect(() => readEventInput(value, { raw: false })).toThrow('not JSON');
    }
  });

  it('is anything at all when raw', () => {
    const value = Buffer.from([0xff, 0x00]);
    expect(readEventInput(value, { raw: true })).toEqual({ key: null, value });
  });

  it('finds its key by a JSON pointer', () => {
    expect(keyAt('/id', '{"id":"a"}')).toBe('a');
    expect(keyAt('/order/items/1/id', '{"order":{"items":[{},{"id":7}]}}')).toBe('7');
    expect(keyAt('/a~1b/~0', '{"a/b":{"~":true}}')).toBe('true');
    expect(keyAt('/', '{"":"empty"}')).toBe('empty');
  });

  it.each([
    ['/id', '{}', 'missing'],
    ['/id', '[]', 'missing'],
    ['/length', '[1]', 'missing'],
    ['/toString', '{}', 'missing'],
    ['/id', '{"id":null}', 'null'],
    ['/id', '{"id":{}}', 'no text'],
    ['/id', '{"id":12345678901234567890}', 'too large'],
  ])('is refused when the key at %s of %s is %s', (pointer, value, why) => {
    expect(() => keyAt(pointer, value)).toThrow(why);
  });
});
