/**
 * A group with held events on a table, for tests: one member A that has partition orders/0, events whose keys the test names,
 * and the log of copies as a list.
 */
import { assert, type PartitionKey } from '@naru/base';
import { keyId } from '@naru/protocol';
import { encodeBatch, setBatchOffsets, type RecordInput } from '@naru/protocol/batch';
import type {
  EventCopy,
  EventOutcome,
  GroupCommand,
  GroupContext,
  GroupDecision,
  GroupLimits,
  GroupReplies,
} from './commands.ts';
import { GroupScenario, join } from './group-scenario.ts';
import type { OffsetRange } from './group-state.ts';
import { topicConfig } from '../registry/topic-config.ts';
import type { HeldPartition } from '../held/held-partition.ts';

const TEXT = new TextEncoder();
const DEFAULTS = {
  retentionMs: 1,
  retentionBytes: 1,
  segmentMs: 1,
  segmentBytes: 1_000_000,
  maxBatchBytes: 1_000_000,
  allowKeyReorder: false,
};

type Without<C> = C extends GroupCommand ? Omit<C, 'groupId'> : never;

export class HeldScenario extends GroupScenario {
  /** The log of copies. */
  readonly copies: RecordInput[] = [];
  parks = false;

  constructor(limits: Partial<GroupLimits> = {}) {
    super({ orders: 2 }, limits);
  }

  /** With member A. */
  static joined(limits: Partial<GroupLimits> = {}): HeldScenario {
    const group = new HeldScenario(limits);
    group.reply(join('A'));
    return group;
  }

  override get context(): GroupContext {
    const groups = this.parks ? 'payment:after-dead-letter=park' : '';
    return {
      ...super.context,
      ownLogEnd: () => this.copies.length,
      topicConfig: () => topicConfig({ groups }, DEFAULTS),
    };
  }

  override decide<C extends Without<GroupCommand>>(command: C): GroupDecision<GroupReplies[C['type']]> {
    const decision = super.decide(command);
    for (const { records } of decision.appends ?? []) this.copies.push(...records);
    return decision;
  }

  get partition(): PartitionKey {
    return this.key('orders/0');
  }

  get events(): HeldPartition | undefined {
    return this.state?.held.get(this.partition);
  }

  /** What is held, as `offset:state`, with the attempts where there were some. */
  get heldTexts(): string[] {
    const events = [...(this.events ?? [])].sort(([a], [b]) => a - b);
    return events.map(([offset, { state, attempts }]) => `${offset}:${state}${attempts > 0 ? ` ${attempts}` : ''}`);
  }

  /** Offsets that may be given now. */
  deliverable(given: readonly number[] = [], max = 100): number[] {
    const found = this.events?.deliverable(this.nowMs, this.parks, new Set(given), max);
    return (found?.events ?? []).map(({ offset }) => offset);
  }

  blockedKeys(): string[] {
    return (this.events?.blockedKeys(this.parks) ?? []).map(keyText).sort();
  }

  /** Commits as A, to orders/0; returns the refusal's code or `ok`. */
  commit(offset: number, outcomes: readonly EventOutcome[] = [], finished: readonly OffsetRange[] | null = []): string {
    const commit = { partition: this.partition, offset, finished, metadata: '', leaderEpoch: -1, endOffset: 1_000_000 };
    const memberId = this.state?.members.has('A') === true ? 'A' : '';
    const memberEpoch = memberId === '' ? -1 : this.epoch('A');
    const { results } = this.reply({ type: 'commit', memberId, memberEpoch, offsets: [{ ...commit, outcomes }] });
    const [result] = results;
    assert(result !== undefined, 'a result for the partition');
    return result.refusal?.code ?? 'ok';
  }
}

/** @param key null for none; left out for an event that is held already */
export function outcome(
  offset: number,
  kind: EventOutcome['kind'],
  key?: string | null,
  changes: Partial<EventOutcome> = {},
): EventOutcome {
  return {
    offset,
    kind,
    attempts: 0,
    durationMs: 0,
    note: '',
    reason: '',
    error: '',
    firstFailureMs: 0,
    lastFailureMs: 0,
    nextAttemptMs: 0,
    idempotencyId: '',
    ...(key === undefined ? {} : { copy: copyOf(offset, key) }),
    ...changes,
  };
}

export function idOf(key: string): string {
  return keyId(TEXT.encode(key));
}

function copyOf(offset: number, key: string | null): EventCopy {
  const bytes = key === null ? null : TEXT.encode(key);
  const batch = encodeBatch([{ key: bytes, value: TEXT.encode(String(offset)), timestampMs: 1_000 }]);
  setBatchOffsets(batch, offset, 0);
  return { keyId: bytes === null ? '' : keyId(bytes), batch };
}

function keyText(id: string): string {
  return String.fromCharCode(...(id.slice(1).match(/../g) ?? []).map((byte) => Number.parseInt(byte, 16)));
}
