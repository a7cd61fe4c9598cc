/**
 * Dead letters of a group: found by filter, page by page, given again, or forgotten.
 *
 * Order of listing: by partition, then by offset. A page is bounded by what it finds and by what it looks at, and says where the
 * next one begins. What was redriven and is not handled yet is still listed, and neither redriven again nor purged.
 */
import { splitPartitionKey, type PartitionKey, type TopicId } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import type { DecisionFor, GroupContext, PurgeDeadLettersCommand, RedriveCommand } from './commands.ts';
import { refused } from './decide-join.ts';
import { comparePartitions, type GroupState } from './group-state.ts';
import { HeldChanges, type HeldChange } from './held-changes.ts';
import type { HeldEvent } from '../held/held-event.ts';
import { firstNotBelow } from '../held/key-queue.ts';

export interface DeadLetterPlace {
  readonly partition: PartitionKey;
  readonly offset: number;
}

/** What is null is not asked for. */
export interface DeadLetterFilter {
  readonly places: readonly DeadLetterPlace[] | null;
  readonly topicId: TopicId | null;
  readonly keyId: string | null;
  readonly reason: string | null;
  /** Dead-lettered then or later, by the wall clock. */
  readonly sinceMs: number | null;
  /** Dead-lettered before. */
  readonly beforeMs: number | null;
}

export interface DeadLetterQuery {
  readonly filter: DeadLetterFilter;
  readonly limit: number;
  /** Where the page before ended; null for the first. */
  readonly cursor: DeadLetterPlace | null;
}

export interface ListedDeadLetter extends DeadLetterPlace {
  readonly event: HeldEvent;
  /** Events of its key that wait behind it. */
  readonly parkedBehind: number;
}

export interface DeadLetterPage {
  readonly letters: readonly ListedDeadLetter[];
  /** Null when that was all. */
  readonly next: DeadLetterPlace | null;
  /** Of the group, whatever the filter. */
  readonly total: number;
}

/** Events that one page looks at. */
const MAX_EXAMINED = 10_000;

export function listDeadLetters(state: GroupState | undefined, query: DeadLetterQuery): DeadLetterPage {
  return find(state, query, () => true);
}

export function decideRedrive(
  state: GroupState | undefined,
  command: RedriveCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<RedriveCommand> {
  const kafka = [...(state?.members.values() ?? [])].find((member) => member.kafka !== null);
  if (kafka !== undefined) {
    const message = `group ${command.groupId} has Kafka members, which cannot be given events again: ${kafka.memberId}`;
    return refused(refuse('INCONSISTENT_GROUP_PROTOCOL', message));
  }
  return decideLetters(state, command, context, nowMs, ({ attempts: _attempts, ...event }) => ({
    ...event,
    state: 'waiting',
    attempts: 0,
    notBeforeMs: 0,
    redrives: event.redrives + 1,
  }));
}

export function decidePurge(
  state: GroupState | undefined,
  command: PurgeDeadLettersCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<PurgeDeadLettersCommand> {
  return decideLetters(state, command, context, nowMs, () => null);
}

function decideLetters(
  state: GroupState | undefined,
  command: RedriveCommand | PurgeDeadLettersCommand,
  context: GroupContext,
  nowMs: number,
  change: (event: HeldEvent) => HeldEvent | null,
): DecisionFor<RedriveCommand | PurgeDeadLettersCommand> {
  const { groupId, untilMs = nowMs, dryRun, filter } = command;
  const page = find(state, command, (event) => event.state === 'dead' && event.atMs <= untilMs);
  const missing = command.cursor === null ? missingOf(state, filter.places ?? []) : [];
  const reply = { letters: page.letters, next: page.next, missing };
  if (dryRun || page.letters.length === 0) return { records: [], reply, timers: [] };
  const held = new HeldChanges(groupId, state, context, nowMs);
  const byPartition = new Map<PartitionKey, HeldChange[]>();
  for (const { partition, offset, event } of page.letters) {
    const changes = byPartition.get(partition) ?? [];
    changes.push({ offset, event: change(event) });
    byPartition.set(partition, changes);
  }
  for (const [partition, changes] of byPartition) {
    const refusal = held.add(partition, changes);
    if (refusal !== null) return refused(refusal);
  }
  return { records: held.around([]), appends: held.appends, reply, timers: [] };
}

/** Asked for by their ids, and not there to be redriven or purged. */
function missingOf(
  state: GroupState | undefined,
  places: readonly DeadLetterPlace[],
): { readonly place: DeadLetterPlace; readonly refusal: Refusal }[] {
  return places.flatMap((place) => {
    const event = state?.held.get(place.partition)?.get(place.offset);
    if (event?.state === 'dead') return [];
    const isRedriven = event !== undefined && event.redrives > 0;
    const message = isRedriven
      ? 'the dead letter was redriven already, and is not handled yet'
      : 'the group has no dead letter of this event';
    return [{ place, refusal: refuse('DEAD_LETTER_NOT_FOUND', message) }];
  });
}

function find(
  state: GroupState | undefined,
  { filter, limit, cursor }: DeadLetterQuery,
  isWanted: (event: HeldEvent) => boolean,
): DeadLetterPage {
  let total = 0;
  for (const held of state?.held.values() ?? []) total += held.letters.length;
  const letters: ListedDeadLetter[] = [];
  let examined = 0;
  let last: DeadLetterPlace | null = null;
  for (const place of placesOf(state, filter, cursor)) {
    if (letters.length >= limit || examined >= MAX_EXAMINED) return { letters, next: last, total };
    examined += 1;
    last = place;
    const held = state?.held.get(place.partition);
    const event = held?.get(place.offset);
    if (held === undefined || event === undefined || !isLetter(event)) continue;
    if (!matches(event, filter) || !isWanted(event)) continue;
    letters.push({ ...place, event, parkedBehind: held.waitingBehind(place.offset) });
  }
  return { letters, next: null, total };
}

function* placesOf(
  state: GroupState | undefined,
  { places, topicId }: DeadLetterFilter,
  cursor: DeadLetterPlace | null,
): Generator<DeadLetterPlace> {
  if (places !== null) {
    const sorted = places.toSorted(comparePlaces);
    for (const place of sorted) if (cursor === null || comparePlaces(place, cursor) > 0) yield place;
    return;
  }
  for (const partition of [...(state?.held.keys() ?? [])].sort(comparePartitions)) {
    if (topicId !== null && splitPartitionKey(partition).topicId !== topicId) continue;
    const order = cursor === null ? 1 : comparePartitions(partition, cursor.partition);
    if (order < 0) continue;
    const offsets = state?.held.get(partition)?.letters ?? [];
    const from = order === 0 && cursor !== null ? firstNotBelow(offsets, cursor.offset + 1) : 0;
    for (let index = from; index < offsets.length; index++) yield { partition, offset: offsets[index] as number };
  }
}

function comparePlaces(a: DeadLetterPlace, b: DeadLetterPlace): number {
  return comparePartitions(a.partition, b.partition) || a.offset - b.offset;
}

function isLetter({ state, redrives }: HeldEvent): boolean {
  return state === 'dead' || redrives > 0;
}

function matches({ keyId, reason, atMs }: HeldEvent, filter: DeadLetterFilter): boolean {
  if (filter.keyId !== null && keyId !== filter.keyId) return false;
  if (filter.reason !== null && reason !== filter.reason) return false;
  if (filter.sinceMs !== null && atMs < filter.sinceMs) return false;
  return filter.beforeMs === null || atMs < filter.beforeMs;
}
