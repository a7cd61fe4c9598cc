/** What events of a staged group wait for, as operators see it: what the shard knows, and what the members' sessions hold back. */
import { splitPartitionKey, type PartitionKey } from '@naru/base';
import { encodeRequestId, type Refusal } from '@naru/protocol';
import type { GateReason } from '../core/group/index.ts';
import { isRefusal, type ShardClient } from '../runtime/commands.ts';
import type { GateDescription } from '../runtime/gate-commands.ts';
import type { WithheldStatus } from './gated-reading.ts';

export interface WithheldEventReport {
  readonly offset: number;
  readonly reason: GateReason['kind'] | 'behind-key';
  /** The group that has not finished it; null for `behind-key`. */
  readonly groupId: string | null;
  /** Null unless it is a dead letter of that group. */
  readonly deadLetterId: string | null;
}

export interface GateReport {
  readonly waitsFor: readonly string[];
  /** Nothing from here on is released. */
  readonly gateOffset: number;
  /** Offsets that the group has not finished and that are not released. */
  readonly withheld: number;
  /** In the order of offsets: the first that is not released, and the first that is and stays behind its key. */
  readonly oldest: readonly WithheldEventReport[];
  /** Events that were passed over while later ones were given. */
  readonly passedOver: number;
  /** Of these: released, and behind an earlier event of their key. */
  readonly behindKey: number;
  /** As many were passed over as may be: the partition is not read on. */
  readonly stalled: boolean;
}

/** What the session of the member that holds a partition holds back; null when there is none, or no gate. */
export type WithheldOf = (groupId: string, memberId: string, partition: PartitionKey) => WithheldStatus | null;

/** By partition; those in which the group waits for nobody are left out. */
export async function describeGates(
  shard: ShardClient,
  groupId: string,
  holders: ReadonlyMap<PartitionKey, string | null>,
  withheldOf: WithheldOf,
): Promise<ReadonlyMap<PartitionKey, GateReport> | Refusal> {
  const gates = await shard.submit({ type: 'describe-gates', groupId, partitions: [...holders.keys()] });
  if (isRefusal(gates)) return gates;
  return new Map(
    gates.map((gate) => {
      const memberId = holders.get(gate.partition) ?? null;
      const status = memberId === null ? null : withheldOf(groupId, memberId, gate.partition);
      return [gate.partition, reportOf(gate, status)];
    }),
  );
}

function reportOf(gate: GateDescription, status: WithheldStatus | null): GateReport {
  const { partition, waitsFor, gateOffset, withheld } = gate;
  const { topicId, partition: number } = splitPartitionKey(partition);
  const oldest: WithheldEventReport[] = [];
  if (gate.oldest !== null) {
    const { offset, kind, groupId } = gate.oldest;
    const deadLetterId = kind === 'dead-letter' ? encodeRequestId(topicId, number, offset) : null;
    oldest.push({ offset, reason: kind, groupId, deadLetterId });
  }
  const behind = status?.firstBehindKey ?? null;
  if (behind !== null) oldest.push({ offset: behind, reason: 'behind-key', groupId: null, deadLetterId: null });
  oldest.sort((a, b) => a.offset - b.offset);
  const { count: passedOver = 0, behindKey = 0, stalled = false } = status ?? {};
  return { waitsFor, gateOffset, withheld, oldest, passedOver, behindKey, stalled };
}
