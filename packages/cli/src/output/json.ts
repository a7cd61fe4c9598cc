/**
 * Values as JSON. Offsets and counts (bigint) become numbers, which `jq` compares as such; beyond 2⁵³, where a number
 * would lose digits, they become text.
 */

/** A document over several lines. */
export function jsonDocument(value: unknown): string {
  return `${JSON.stringify(value, bigintsAsNumbers, 2)}\n`;
}

/** A document on one line. */
export function jsonLine(value: unknown): string {
  return `${JSON.stringify(value, bigintsAsNumbers)}\n`;
}

function bigintsAsNumbers(_key: string, value: unknown): unknown {
  if (typeof value !== 'bigint') return value;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value.toString();
}
