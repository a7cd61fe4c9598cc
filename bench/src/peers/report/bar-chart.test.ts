import { expect, test } from 'vitest';
import { barChart } from './bar-chart.ts';

test('the longest run reaches the end of the scale, and bars are in proportion', () => {
  const bars = [
    { name: 'a', color: '#000', median: 50, min: 40, max: 100 },
    { name: 'b & <c>', color: '#fff', median: 25, min: 25, max: 25 },
  ];
  const svg = barChart('Title', 'MB/s', bars, 1);
  const widths = [...svg.matchAll(/width="([\d.]+)" height="18"/g)].map((match) => Number(match[1]));
  expect(widths[0]).toBe(2 * (widths[1] ?? 0));
  expect(svg).toContain('b &amp; &lt;c&gt;');
  expect(svg).toContain('>50.0</text>');
});
