/** Which changes of a topic's settings let the broker delete what it would have kept. */
import { canonicalSetting } from './setting-texts.ts';

/** The less of these, the earlier events go. */
const KEEPS: Readonly<Record<string, string>> = {
  'retention.ms': 'events go earlier',
  'retention.bytes': 'events go earlier',
  'acknowledged.floor.ms': 'acknowledged events go earlier',
  'acknowledged.ceiling.ms': 'events that nobody has finished go earlier',
  'delete.retention.ms': 'tombstones go earlier',
  'min.compaction.lag.ms': 'older events of a key go earlier',
};

/**
 * @param inForce values of all settings now
 * @param to the new text; undefined for the broker's default, which is not known here
 * @param config everything that the catalog says of the topic
 * @returns what would be lost; null for nothing
 */
export function dataLoss(
  setting: string,
  inForce: ReadonlyMap<string, string>,
  to: string | undefined,
  config: Readonly<Record<string, string>>,
): string | null {
  const from = inForce.get(setting) ?? '';
  const kept = KEEPS[setting];
  if (kept !== undefined) return to === undefined || limit(setting, to) < limit(setting, from) ? kept : null;
  if (setting === 'cleanup.policy') return policyLoss(from, to ?? 'delete');
  const isFinishing = setting === 'groups' || setting === 'acknowledged.groups';
  if (isFinishing && (config['cleanup.policy'] ?? '').includes('acknowledged')) return groupLoss(from, to ?? '');
  return null;
}

function limit(setting: string, text: string): number {
  const value = Number(canonicalSetting(setting, text));
  return value === -1 ? Infinity : value;
}

function policyLoss(from: string, to: string): string | null {
  const before = from.split(',');
  const added = to.split(',').filter((policy) => !before.includes(policy));
  return added.length === 0 ? null : `policy ${added.join(', ')} deletes events that are kept now`;
}

function groupLoss(from: string, to: string): string | null {
  const names = (text: string): string[] =>
    text
      .split(',')
      .map((group) => (group.split(':', 1)[0] ?? '').trim())
      .filter((name) => name !== '');
  const after = names(to);
  const gone = names(from).filter((name) => !after.includes(name));
  return gone.length === 0 ? null : `events that ${gone.join(', ')} has not finished may go`;
}
