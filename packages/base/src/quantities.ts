/** Sizes and durations as people write them in settings: `10GiB`, `64kB`, `1.5s`, `7d`. */

const SIZE_UNITS: Readonly<Record<string, number>> = {
  b: 1,
  kb: 1_000,
  mb: 1_000_000,
  gb: 1_000_000_000,
  tb: 1_000_000_000_000,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
  tib: 1024 ** 4,
};

const DURATION_UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

const QUANTITY_PATTERN = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i;

function parse(
  text: string,
  units: Readonly<Record<string, number>>,
  bareUnit: string,
  example: string,
): number | string {
  const match = QUANTITY_PATTERN.exec(text.trim());
  const unit = match === null ? undefined : units[(match[2] || bareUnit).toLowerCase()];
  if (match === null || unit === undefined) {
    return `expected a number with a unit (${Object.keys(units).join(', ')}), such as ${example}; got ${JSON.stringify(text)}`;
  }
  const value = Math.round(Number(match[1]) * unit);
  return Number.isSafeInteger(value) ? value : `${JSON.stringify(text)} is too large`;
}

/** Bytes, or a sentence that says what is wrong. A bare number is bytes. */
export function parseByteSize(text: string): number | string {
  return parse(text, SIZE_UNITS, 'b', '64KiB');
}

/** Milliseconds, or a sentence that says what is wrong. A bare number is milliseconds. */
export function parseDuration(text: string): number | string {
  return parse(text, DURATION_UNITS_MS, 'ms', '500ms');
}

/** `1536` → `1.5 KiB`. */
export function formatByteSize(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || Number.isInteger(value) ? value : value.toFixed(1)} ${units[unit]}`;
}
