/**
 * Changes of held events that belong to one decision: checked against the limits partition by partition, and turned into
 * records of the group log and of the copies' log.
 */
import { splitPartitionKey, type PartitionKey } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import type { RecordInput } from '@naru/protocol/batch';
import type { EventCopy, GroupContext, OwnLogAppend } from './commands.ts';
import type { GroupRecord, GroupState } from './group-state.ts';
import { encodeGroupRecord } from './group-record-codec.ts';
import type { HeldEvent } from '../held/held-event.ts';

export interface HeldChange {
  readonly offset: number;
  /** Null: the event is done with. With `copy` its offset and size are filled in here. */
  readonly event: HeldEvent | null;
  /** Of an event that was not held before. */
  readonly copy?: EventCopy | undefined;
}

export class HeldChanges {
  readonly groupId: string;
  readonly #context: GroupContext;
  readonly #nowMs: number;
  readonly #kept: GroupRecord[] = [];
  readonly #gone: GroupRecord[] = [];
  readonly #copies: RecordInput[] = [];
  readonly #ends: RecordInput[] = [];
  readonly #state: GroupState | undefined;
  #logEnd: number | null = null;
  /** Of the group, with what was taken over; −1 until they are needed. */
  #events = -1;
  #bytes = 0;

  constructor(groupId: string, state: GroupState | undefined, context: GroupContext, nowMs: number) {
    this.groupId = groupId;
    this.#state = state;
    this.#context = context;
    this.#nowMs = nowMs;
  }

  /**
   * Around the offsets that belong to them: what is held from now on goes before the offset that says that it is finished, what
   * is dropped after the offset that says that it is not. Should only a part become durable, nothing is in neither place.
   */
  around(offsets: readonly GroupRecord[]): GroupRecord[] {
    return [...this.#kept, ...offsets, ...this.#gone];
  }

  /** Where no offset belongs to them. */
  get records(): readonly GroupRecord[] {
    return this.around([]);
  }

  /**
   * Copies before the records that name them; that a copy is needed no more after the record that says so. Should only a part become
   * durable, there may be a copy too many, and none too few.
   */
  get appends(): readonly OwnLogAppend[] {
    const appends: OwnLogAppend[] = [];
    if (this.#copies.length > 0) appends.push({ log: 'held', records: this.#copies });
    if (this.#ends.length > 0) appends.push({ log: 'held', records: this.#ends, isAfter: true });
    return appends;
  }

  /** Takes over all of a partition's changes, or refuses all with HELD_LIMIT_REACHED. */
  add(partition: PartitionKey, changes: readonly HeldChange[]): Refusal | null {
    if (changes.length === 0) return null;
    if (this.#events < 0) this.#count();
    const [events, bytes] = [this.#events, this.#bytes];
    const held = this.#state?.held.get(partition);
    for (const { offset, event, copy } of changes) {
      const before = held?.get(offset);
      this.#events += (event === null ? 0 : 1) - (before === undefined ? 0 : 1);
      const size = event === null ? 0 : copy === undefined ? event.sizeBytes : copy.batch.length;
      this.#bytes += size - (before?.sizeBytes ?? 0);
    }
    const { maxHeldEvents, maxHeldBytes } = this.#context.limits;
    const grows = this.#events > events || this.#bytes > bytes;
    if (grows && (this.#events > maxHeldEvents || this.#bytes > maxHeldBytes)) {
      [this.#events, this.#bytes] = [events, bytes];
      const message = `group ${this.groupId} holds ${events} events of ${bytes} bytes; the limits are ${maxHeldEvents} and ${maxHeldBytes}`;
      return refuse('HELD_LIMIT_REACHED', `${message}: handle, redrive or purge some first`);
    }
    for (const change of changes) this.#put(partition, change);
    return null;
  }

  #count(): void {
    this.#events = 0;
    for (const held of this.#state?.held.values() ?? []) {
      this.#events += held.size;
      this.#bytes += held.sizeBytes;
    }
  }

  #put(partition: PartitionKey, { offset, event, copy }: HeldChange): void {
    const groupId = this.groupId;
    if (event === null) {
      this.#ends.push(copyRecord(groupId, partition, offset, null, this.#nowMs));
      this.#gone.push({ kind: 'held', groupId, partition, offset, value: null });
      return;
    }
    if (copy === undefined) {
      this.#kept.push({ kind: 'held', groupId, partition, offset, value: event });
      return;
    }
    const copyOffset = this.#end() + this.#copies.length;
    this.#copies.push(copyRecord(groupId, partition, offset, copy, this.#nowMs));
    const value = { ...event, copyOffset, sizeBytes: copy.batch.length };
    this.#kept.push({ kind: 'held', groupId, partition, offset, value });
  }

  #end(): number {
    this.#logEnd ??= this.#context.ownLogEnd?.('held', this.groupId) ?? 0;
    return this.#logEnd;
  }
}

/** Whether dead letters of the group park their key there. */
export function isParking(
  groupId: string,
  partition: PartitionKey,
  context: Pick<GroupContext, 'topicConfig'>,
): boolean {
  const config = context.topicConfig?.(splitPartitionKey(partition).topicId);
  return config?.groups.some(({ name, afterDeadLetter }) => name === groupId && afterDeadLetter === 'park') ?? false;
}

/** The key is that of the event's record in the group log, so that compaction keeps one copy of it for a group. */
function copyRecord(
  groupId: string,
  partition: PartitionKey,
  offset: number,
  copy: EventCopy | null,
  timestampMs: number,
): RecordInput {
  const { key } = encodeGroupRecord({ kind: 'held', groupId, partition, offset, value: null });
  return { key, value: copy?.batch ?? null, timestampMs };
}
