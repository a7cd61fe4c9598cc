import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { testTerminal } from '../test-terminal.ts';
import { DataOutput } from './data-output.ts';

function failing(code: string): Writable {
  const stream = new Writable({
    write: (_chunk, _encoding, done) => done(Object.assign(new Error(code), { code })),
  });
  stream.on('error', () => {});
  return stream;
}

describe('data output', () => {
  it('waits for its reader', async () => {
    let take: () => void = () => {};
    const stdout = new Writable({
      highWaterMark: 1,
      write: (_chunk, _encoding, done) => {
        take = done;
      },
    });
    let isDone = false;
    const writing = new DataOutput({ ...testTerminal(), stdout }).write('text').then((ok) => {
      isDone = true;
      return ok;
    });
    await Promise.resolve();
    expect(isDone).toBe(false);
    take();
    expect(await writing).toBe(true);
  });

  it('says that nobody reads any more', async () => {
    const output = new DataOutput({ ...testTerminal(), stdout: failing('EPIPE') });
    expect(await output.write('text')).toBe(false);
    expect(output.isClosed).toBe(true);
    expect(await output.write('more')).toBe(false);
  });

  it('fails for any other reason', async () => {
    const output = new DataOutput({ ...testTerminal(), stdout: failing('ENOSPC') });
    await expect(output.write('text')).rejects.toMatchObject({ code: 'ENOSPC' });
  });
});
