import { describe, expect, it } from 'vitest';
import { ReadBudget } from './read-budget.ts';

/** Work that says when it begins, and ends when it is told. */
function reads(budget: ReadBudget) {
  const begun: string[] = [];
  const ends = new Map<string, (error?: Error) => void>();
  const start = (name: string, bytes: number): Promise<void> =>
    budget.use(bytes, () => {
      begun.push(name);
      return new Promise((resolve, reject) =>
        ends.set(name, (error) => (error === undefined ? resolve() : reject(error))),
      );
    });
  const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  return { begun, start, settle, end: (name: string, error?: Error) => ends.get(name)?.(error) };
}

describe('ReadBudget', () => {
  it('begins at once what fits, and the rest in order when there is room', async () => {
    const { begun, start, settle, end } = reads(new ReadBudget(100));
    const all = [start('a', 60), start('b', 40), start('c', 50), start('d', 1)];
    await settle();
    expect(begun).toEqual(['a', 'b']);
    end('b');
    await settle();
    // There is room for d, but c came first.
    expect(begun).toEqual(['a', 'b']);
    end('a');
    await settle();
    expect(begun).toEqual(['a', 'b', 'c', 'd']);
    end('c');
    end('d');
    await Promise.all(all);
  });

  it('lets what is larger than the whole budget run alone, and goes on after a failure', async () => {
    const { begun, start, settle, end } = reads(new ReadBudget(100));
    const large = start('large', 500);
    const small = start('small', 10);
    await settle();
    expect(begun).toEqual(['large']);
    end('large', new Error('no'));
    await expect(large).rejects.toThrow('no');
    await settle();
    expect(begun).toEqual(['large', 'small']);
    end('small');
    await small;
  });
});
