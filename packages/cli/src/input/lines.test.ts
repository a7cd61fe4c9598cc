import { describe, expect, it } from 'vitest';
import { readLines } from './lines.ts';

async function linesOf(chunks: readonly string[], maxBytes?: number): Promise<[number, string][]> {
  const lines: [number, string][] = [];
  const source = (async function* () {
    for (const chunk of chunks) yield Buffer.from(chunk);
  })();
  for await (const { number, bytes } of readLines(source, maxBytes)) lines.push([number, bytes.toString()]);
  return lines;
}

describe('lines of a stream', () => {
  it('numbers them from 1, with LF or CRLF between, and the last with or without', async () => {
    expect(await linesOf(['a\nb\r\n\nc'])).toEqual([
      [1, 'a'],
      [2, 'b'],
      [3, ''],
      [4, 'c'],
    ]);
    expect(await linesOf(['a\n'])).toEqual([[1, 'a']]);
    expect(await linesOf([])).toEqual([]);
  });

  it('are the same wherever the stream is cut', async () => {
    const text = 'one\r\n두 번째\n\nlast';
    const whole = await linesOf([text]);
    for (let cut = 0; cut <= text.length; cut++)
      expect(await linesOf([text.slice(0, cut), text.slice(cut)])).toEqual(whole);
  });

  it('are refused when one never ends', async () => {
    await expect(linesOf(['ok\n', 'aaaaa', 'aaaaa', 'a'], 10)).rejects.toMatchObject({ code: 'RECORD_TOO_LARGE' });
  });
});
