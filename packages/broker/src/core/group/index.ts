/** The consumer group state machine (KIP-848): pure. See decide.ts for commands, group-state.ts for state and records. */
export * from './commands.ts';
export { decideGroup, isRefusal } from './decide.ts';
export { timersAfterRecovery } from './decide-membership.ts';
export { changedMembers, describeGroup, fetchOffsets, groupStateName, memberView } from './inspect.ts';
export type { GroupDescription, GroupStateName, MemberDescription } from './inspect.ts';
export { decodeGroupRecord, encodeGroupRecord } from './group-record-codec.ts';
export type { EncodedGroupRecord } from './group-record-codec.ts';
export { comparePartitions, evolveGroup, evolveGroups, groupRecords, LEFT_STATIC_EPOCH } from './group-state.ts';
export type { CommittedOffset, GroupInfo, GroupRecord, GroupState, MemberState, OffsetRange } from './group-state.ts';
