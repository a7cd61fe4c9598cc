import { Readable } from 'node:stream';
import type { TopicId } from '@naru/base';
import { PublishResult } from '@naru/client';
import { NaruError } from '@naru/protocol';
import { describe, expect, it } from 'vitest';
import type { EventInput } from '../input/event-input.ts';
import { testTerminal } from '../test-terminal.ts';
import { LinePublisher, MAX_IN_FLIGHT_EVENTS } from './line-publisher.ts';

const TOPIC_ID = '00000000-0000-4000-8000-000000000000' as TopicId;
const never = new AbortController().signal;

const stored = (offset: number): PublishResult => new PublishResult('orders', TOPIC_ID, 0, offset, 0);

interface Setting {
  readonly isJson?: boolean;
  readonly publish: (event: EventInput) => Promise<PublishResult>;
}

function publisher({ isJson = false, publish }: Setting) {
  const terminal = testTerminal();
  return { terminal, lines: new LinePublisher({ terminal, isJson, input: { raw: false }, publish }) };
}

describe('publishing lines', () => {
  it('prints results in the order of the lines, whatever order they come in', async () => {
    const settle: (() => void)[] = [];
    const { terminal, lines } = publisher({
      isJson: true,
      publish: ({ value }) =>
        new Promise((resolve) => {
          settle.push(() => resolve(stored(Number(value))));
          if (settle.length === 3) for (const step of settle.reverse()) step();
        }),
    });
    const summary = await lines.run(Readable.from([Buffer.from('10\n\n11\n12')]), never);
    const offsets = terminal
      .out()
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { offset: number }).offset);
    expect(offsets).toEqual([10, 11, 12]);
    expect(summary).toEqual({ published: 3, failed: 0, failedLines: '', unreadFrom: null });
  });

  it('names lines that are not events, and goes on', async () => {
    const { terminal, lines } = publisher({ publish: () => Promise.resolve(stored(0)) });
    const summary = await lines.run(Readable.from([Buffer.from('1\nx\ny\n2\n')]), never);
    expect(summary).toEqual({ published: 2, failed: 2, failedLines: '2-3', unreadFrom: null });
    expect(terminal.err()).toMatch(/^error: line 2: not JSON.*\nerror: line 3: not JSON.*\n$/);
  });

  it('stops reading at an error that the next line would meet too, and says it once', async () => {
    let calls = 0;
    const { terminal, lines } = publisher({
      publish: () => {
        calls += 1;
        return Promise.reject(new NaruError('UNKNOWN_TOPIC_OR_PARTITION', 'there is no such topic'));
      },
    });
    // Endless: only stopping ends it.
    const source = Readable.from(
      (function* () {
        for (;;) yield Buffer.from('1\n');
      })(),
    );
    const summary = await lines.run(source, never);
    expect(summary).toMatchObject({ published: 0, failed: calls, unreadFrom: calls + 1 });
    expect(terminal.err()).toBe('error: line 1: there is no such topic (UNKNOWN_TOPIC_OR_PARTITION)\n');
  });

  it('reads no further ahead than its limit', async () => {
    const waiting: (() => void)[] = [];
    let most = 0;
    let unsettled = 0;
    const { lines } = publisher({
      publish: () =>
        new Promise((resolve) => {
          unsettled += 1;
          most = Math.max(most, unsettled);
          waiting.push(() => {
            unsettled -= 1;
            resolve(stored(0));
          });
          if (unsettled === MAX_IN_FLIGHT_EVENTS) setImmediate(() => waiting.splice(0).forEach((settle) => settle()));
        }),
    });
    const count = MAX_IN_FLIGHT_EVENTS * 2;
    const summary = await lines.run(Readable.from([Buffer.from('1\n'.repeat(count))]), never);
    expect(summary.published).toBe(count);
    expect(most).toBe(MAX_IN_FLIGHT_EVENTS);
  });

  it('ends when it is interrupted, after what was handed over', async () => {
    const interruption = new AbortController();
    const { lines } = publisher({
      publish: () => {
        interruption.abort();
        return Promise.resolve(stored(0));
      },
    });
    const source = new Readable({ read: () => {} });
    source.push('1\n');
    expect(await lines.run(source, interruption.signal)).toMatchObject({ published: 1, unreadFrom: 2 });
  });
});
