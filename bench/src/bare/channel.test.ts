import { expect, test } from 'vitest';
import { Channel } from './channel.ts';

test('who pushes waits at the limit until something is taken', async () => {
  const channel = new Channel<number>(2);
  expect(channel.push(1)).toBeNull();
  const room = channel.push(2);
  expect(room).not.toBeNull();
  expect(await channel.takeAll()).toEqual([1, 2]);
  await room;
});

test('what was pushed before the end still comes', async () => {
  const channel = new Channel<string>(8);
  const taken = (async () => {
    const all: string[] = [];
    for await (const item of channel) all.push(item);
    return all;
  })();
  void channel.push('a');
  void channel.push('b');
  channel.end();
  expect(await taken).toEqual(['a', 'b']);
});
