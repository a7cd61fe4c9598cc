/** Texts of topic settings, comparable: as the broker keeps them. */
import { parseByteSize, parseDuration } from '@naru/base';

const UNLIMITED = '-1';

/** `7d` of `retention.ms` as `604800000`; what has no such form as it is. */
export function canonicalSetting(name: string, text: string): string {
  const trimmed = text.trim();
  if (trimmed === 'unlimited') return UNLIMITED;
  if (trimmed === UNLIMITED) return UNLIMITED;
  if (name.endsWith('.ms')) return quantity(parseDuration(trimmed), trimmed);
  if (name.endsWith('.bytes')) return quantity(parseByteSize(trimmed), trimmed);
  if (name === 'groups' || name === 'acknowledged.groups' || name === 'cleanup.policy') {
    return trimmed
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== '')
      .toSorted()
      .join(',');
  }
  if (/^(?:true|false)$/i.test(trimmed)) return trimmed.toLowerCase();
  return trimmed !== '' && Number.isFinite(Number(trimmed)) ? String(Number(trimmed)) : trimmed;
}

function quantity(parsed: number | string, text: string): string {
  return typeof parsed === 'number' ? String(parsed) : text;
}
