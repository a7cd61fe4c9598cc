/** States of groups in Kafka's words. */
import type { GroupStateName } from '../../../core/group/index.ts';

export const KAFKA_STATE_NAMES: Readonly<Record<GroupStateName, string>> = {
  empty: 'Empty',
  assigning: 'Assigning',
  reconciling: 'Reconciling',
  stable: 'Stable',
  'preparing-rebalance': 'PreparingRebalance',
  'completing-rebalance': 'CompletingRebalance',
};

/** The same in the words of the classic protocol, for clients that know only those. */
export const CLASSIC_STATE_NAMES: Readonly<Record<GroupStateName, string>> = {
  ...KAFKA_STATE_NAMES,
  assigning: 'PreparingRebalance',
  reconciling: 'CompletingRebalance',
};

/** Of a group that is not there. */
export const DEAD = 'Dead';
