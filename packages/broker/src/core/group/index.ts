/** The consumer group state machine (KIP-848): pure. See decide.ts for commands, group-state.ts for state and records. */
export * from './commands.ts';
export { listDeadLetters } from './dead-letters.ts';
export type { DeadLetterFilter, DeadLetterPage, DeadLetterPlace, ListedDeadLetter } from './dead-letters.ts';
export type { HeldDescription } from './describe-held.ts';
export { isParking } from './held-changes.ts';
export { decideGroup, isRefusal } from './decide.ts';
export { timersAfterRecovery } from './decide-membership.ts';
export type { ClassicRound } from './classic-round.ts';
export {
  gateOf,
  gateReason,
  gateView,
  hasHole,
  isReleased,
  OPEN_GATE,
  sameGateView,
  type Gate,
  type GateReason,
  type GateView,
} from './gate.ts';
export { changedMembers, describeGroup, fetchOffsets, groupStateName, memberView, protocolOf } from './inspect.ts';
export type { GroupDescription, GroupStateName, GroupType, MemberDescription, MemberProtocol } from './inspect.ts';
export type * from './kafka-commands.ts';
export { unstablePartitions } from './transaction-offsets.ts';
export { decodeGroupRecord, encodeGroupRecord } from './group-record-codec.ts';
export type { EncodedGroupRecord } from './group-record-codec.ts';
export { comparePartitions, evolveGroup, evolveGroups, groupRecords, LEFT_STATIC_EPOCH } from './group-state.ts';
export type {
  ClassicInfo,
  ClassicMembership,
  ClassicProtocol,
  CommittedOffset,
  GroupInfo,
  GroupRecord,
  GroupState,
  KafkaMembership,
  MemberState,
  OffsetRange,
  PendingCommit,
  PendingOffset,
} from './group-state.ts';
