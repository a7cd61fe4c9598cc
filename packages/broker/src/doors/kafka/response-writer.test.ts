import type { Socket } from 'node:net';
import { VirtualClock } from '@naru/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ResponseWriter } from './response-writer.ts';

/** A socket that takes a slice when it is told. */
function slowSocket() {
  const written: Uint8Array[] = [];
  const waiting: (() => void)[] = [];
  const socket = {
    cork: () => undefined,
    uncork: () => undefined,
    write: (part: Uint8Array, taken?: () => void) => {
      written.push(part);
      if (taken !== undefined) waiting.push(taken);
    },
  } as unknown as Socket;
  return { socket, written, takeOne: (): void => waiting.shift()?.() };
}

describe('ResponseWriter', () => {
  it('hands over what lies together in memory as one piece', () => {
    const { socket, written } = slowSocket();
    const writer = new ResponseWriter(socket, new VirtualClock(), () => undefined);
    const memory = Buffer.from('head, then batches that were read together');
    writer.write([Buffer.from('size'), memory.subarray(6, 10), memory.subarray(10, 20), memory.subarray(22, 30)]);
    expect(written.map(String)).toEqual(['size', String(memory.subarray(6, 20)), String(memory.subarray(22, 30))]);
  });

  it('sends every byte once and in order, however parts lie in memory and whenever the socket takes them', () => {
    const part = fc.record({ bytes: fc.integer({ min: 1, max: 300_000 }), gap: fc.integer({ min: 0, max: 2 }) });
    const steps = fc.array(fc.record({ parts: fc.array(part, { minLength: 1, maxLength: 4 }), takes: fc.nat(3) }), {
      maxLength: 6,
    });
    const memory = Buffer.alloc(
      10_000_000,
      Uint8Array.from({ length: 251 }, (_, i) => i),
    );
    fc.assert(
      fc.property(steps, (all) => {
        const { socket, written, takeOne } = slowSocket();
        let sent = 0;
        const writer = new ResponseWriter(socket, new VirtualClock(), (bytes) => (sent += bytes));
        const expected: Buffer[] = [];
        let at = 0;
        for (const { parts, takes } of all) {
          const views = parts.map(({ bytes, gap }) => {
            const view = memory.subarray(at, at + bytes);
            at += bytes + gap;
            return view;
          });
          expected.push(...views);
          writer.write(views);
          for (let i = 0; i < takes; i++) takeOne();
        }
        for (let i = 0; i < 1_000 && writer.unsentBytes > 0; i++) takeOne();
        expect(Buffer.concat(written).equals(Buffer.concat(expected))).toBe(true);
        expect(sent).toBe(Buffer.concat(expected).length);
      }),
      { numRuns: 60 },
    );
  });
});
