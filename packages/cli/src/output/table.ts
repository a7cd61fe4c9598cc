/** Tables for people: columns without borders, numbers to the right. */
import { styleText } from 'node:util';
import type { OutputStream } from '../terminal.ts';
import { printable } from './printable.ts';

export type Cell = string | number | bigint | null | undefined;

export interface Column<Row> {
  readonly title: string;
  readonly value: (row: Row) => Cell;
}

/**
 * @param stream where it will be printed: decides on colour, together with NO_COLOR and FORCE_COLOR
 * @returns lines, each ending with a line feed
 */
export async function table<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  stream: OutputStream,
): Promise<string> {
  const { default: Table } = await import('cli-table3');
  const isNumeric = columns.map(({ value }) => {
    const cells = rows.map(value).filter((cell) => cell !== null && cell !== undefined);
    return cells.length > 0 && cells.every((cell) => typeof cell !== 'string');
  });
  const grid = new Table({
    chars: NO_BORDERS,
    style: { head: [], border: [], compact: true, 'padding-left': 0, 'padding-right': 2 },
    colAligns: isNumeric.map((numeric) => (numeric ? 'right' : 'left')),
  });
  grid.push(columns.map(({ title }) => styleText('bold', title, { stream, validateStream: true })));
  for (const row of rows) grid.push(columns.map(({ value }) => cellText(value(row))));
  const lines = grid.toString().split('\n');
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`;
}

function cellText(cell: Cell): string {
  return cell === null || cell === undefined || cell === '' ? '-' : printable(String(cell));
}

const NO_BORDERS = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '',
};
