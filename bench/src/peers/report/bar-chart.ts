/** A bar chart as SVG: a bar for each subject, and a line from the lowest to the highest of its runs. */
import type { Summary } from '../../statistics.ts';

export interface Bar extends Summary {
  readonly name: string;
  readonly color: string;
}

const WIDTH = 760;
const NAME_WIDTH = 230;
const NUMBER_WIDTH = 90;
const BAR_HEIGHT = 18;
const ROW_HEIGHT = 26;
const TOP = 44;
const BOTTOM = 12;
const FONT = 'font-family="system-ui, sans-serif"';

export function barChart(title: string, unit: string, bars: readonly Bar[], digits: number): string {
  const height = TOP + bars.length * ROW_HEIGHT + BOTTOM;
  const scale = (WIDTH - NAME_WIDTH - NUMBER_WIDTH) / Math.max(...bars.map(({ max }) => max), Number.MIN_VALUE);
  const rows = bars.map(({ name, color, median, min, max }, index) => {
    const y = TOP + index * ROW_HEIGHT;
    const middle = y + BAR_HEIGHT / 2;
    const at = (value: number): string => (NAME_WIDTH + value * scale).toFixed(1);
    return [
      `<text x="${NAME_WIDTH - 8}" y="${middle + 4}" text-anchor="end" font-size="12">${escaped(name)}</text>`,
      `<rect x="${NAME_WIDTH}" y="${y}" width="${(median * scale).toFixed(1)}" height="${BAR_HEIGHT}" fill="${color}"/>`,
      `<line x1="${at(min)}" y1="${middle}" x2="${at(max)}" y2="${middle}" stroke="#222" stroke-width="1.5"/>`,
      `<text x="${Number(at(max)) + 6}" y="${middle + 4}" font-size="12">${number(median, digits)}</text>`,
    ].join('\n  ');
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" ${FONT}>
  <rect width="100%" height="100%" fill="#fff"/>
  <text x="12" y="18" font-size="14" font-weight="600">${escaped(title)}</text>
  <text x="12" y="34" font-size="11" fill="#555">${escaped(unit)}; the bar is the median, the line goes from the lowest to the highest run</text>
  ${rows.join('\n  ')}
</svg>
`;
}

export function number(value: number, digits: number): string {
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
