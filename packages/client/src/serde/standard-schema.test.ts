import type { StandardSchemaV1 } from '@standard-schema/spec';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { decodeValue, serializeValue, string } from './serde.ts';
import { validated } from './standard-schema.ts';

const order = z.object({
  id: z.string(),
  at: z.iso.datetime().transform((text) => new Date(text)),
  state: z.string().default('new'),
});

describe('a Standard Schema', () => {
  it('sends the value as it was accepted, and gives readers what the schema makes of it', () => {
    const serde = validated(order) as ReturnType<typeof validated>;
    const value = { id: 'a', at: '2026-01-01T00:00:00Z' };
    const bytes = serializeValue(serde, value, 'orders') as Uint8Array;
    expect(Buffer.from(bytes).toString()).toBe(JSON.stringify(value));
    expect(decodeValue(serde, bytes, 'orders/0/0')).toEqual({
      id: 'a',
      at: new Date('2026-01-01T00:00:00Z'),
      state: 'new',
    });
    expect([serializeValue(serde, null, 'orders'), decodeValue(serde, null, 'orders/0/0')]).toEqual([null, null]);
  });

  it('refuses with the path, on the side that it is for', () => {
    const lines = z.object({ lines: z.array(z.object({ 'a/b': z.number() })) });
    const value = { lines: [{ 'a/b': 1 }, { 'a/b': 'x' }] };
    const bytes = Buffer.from(JSON.stringify(value));
    const both = validated(lines) as ReturnType<typeof validated>;
    expect(() => serializeValue(both, value, 'orders')).toThrow(
      /^value for orders is not json: \/lines\/1\/a~1b: .*expected number/,
    );
    expect(() => decodeValue(both, bytes, 'orders/0/9')).toThrow(
      /^value of orders\/0\/9 is not json: \/lines\/1\/a~1b/,
    );
    const publish = validated(lines, { on: 'publish' }) as ReturnType<typeof validated>;
    expect(decodeValue(publish, bytes, 'orders/0/9')).toEqual(value);
    const read = validated(lines, { on: 'read' }) as ReturnType<typeof validated>;
    expect(serializeValue(read, value, 'orders')).toEqual(bytes);
  });

  it('may be asynchronous, and stand on any serde', async () => {
    const short: StandardSchemaV1<string> = {
      '~standard': {
        version: 1,
        vendor: 'test',
        validate: (value) =>
          Promise.resolve(String(value).length < 3 ? { value: String(value) } : { issues: [{ message: 'too long' }] }),
      },
    };
    const serde = validated(short, { serde: string as never });
    const bytes = (await serializeValue(serde, 'ab', 'orders')) as Uint8Array;
    expect(await decodeValue(serde, bytes, 'orders/0/0')).toBe('ab');
    await expect(serializeValue(serde, 'abc', 'orders')).rejects.toMatchObject({
      code: 'SERIALIZATION',
      message: 'value for orders is not string: too long',
    });
    await expect(decodeValue(serde, Buffer.from('abc'), 'orders/0/1')).rejects.toMatchObject({
      code: 'SERIALIZATION',
      path: '',
    });
  });
});
