import { describe, expect, it } from 'vitest';
import { testTerminal } from '../test-terminal.ts';
import { table } from './table.ts';

describe('a table', () => {
  it('has columns without borders, numbers to the right, and no colour where there is no terminal', async () => {
    const rows = [
      { name: 'a', count: 5n, owner: undefined },
      { name: 'long\u001bname', count: 12_345n, owner: 'x' },
    ];
    const columns = [
      { title: 'NAME', value: (row: (typeof rows)[number]) => row.name },
      { title: 'COUNT', value: (row: (typeof rows)[number]) => row.count },
      { title: 'OWNER', value: (row: (typeof rows)[number]) => row.owner },
    ];
    expect(await table(columns, rows, testTerminal().stdout)).toBe(
      ['NAME          COUNT  OWNER', 'a                 5  -', 'long\\x1bname  12345  x', ''].join('\n'),
    );
  });
});
