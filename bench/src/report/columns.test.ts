import { expect, test } from 'vitest';
import { columns, markdownTable } from './columns.ts';

const rows = [
  ['', 'MB/s'],
  ['publish', '9'],
];

test('the first column stands left, the others right, and no line ends in blanks', () => {
  expect(columns(rows)).toEqual(['         MB/s', 'publish     9']);
  expect(
    columns([
      ['a', ''],
      ['bcd', ''],
    ]),
  ).toEqual(['a', 'bcd']);
});

test('a Markdown table aligns in the same way', () => {
  expect(markdownTable(rows)).toEqual(['|  | MB/s |', '| --- | ---: |', '| publish | 9 |']);
});
