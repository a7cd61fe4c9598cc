/**
 * The door into the group machine: one command, one decision.
 *
 * Pure: the same state, command, context and time give the same decision. Nothing here changes the state; the caller
 * gives the records to evolveGroup, at once and in order, and answers when they are durable.
 */
import { unreachable } from '@naru/base';
import type { Refusal } from '@naru/protocol';
import type { DecisionFor, GroupCommand, GroupContext, GroupDecision, GroupReplies } from './commands.ts';
import { decideJoin } from './decide-join.ts';
import {
  decideDisconnected,
  decideHeartbeat,
  decideLeave,
  decideTimer,
  decideTopicsChanged,
  decideTouch,
} from './decide-membership.ts';
import { decideCommit, decideDeleteGroup, decideDeleteOffsetsOfTopic, decideResetOffsets } from './decide-offsets.ts';
import type { GroupState } from './group-state.ts';

/**
 * @param state of the command's group; undefined when there is no such group
 * @param nowMs wall clock, for the timestamps in records
 */
export function decideGroup<C extends GroupCommand>(
  state: GroupState | undefined,
  command: C,
  context: GroupContext,
  nowMs: number,
): DecisionFor<C> {
  // The switch relates each command type to its reply, which the compiler cannot see through a type parameter.
  return decideAny(state, command, context, nowMs) as DecisionFor<C>;
}

function decideAny(
  state: GroupState | undefined,
  command: GroupCommand,
  context: GroupContext,
  nowMs: number,
): GroupDecision<GroupReplies[GroupCommand['type']]> {
  switch (command.type) {
    case 'join':
      return decideJoin(state, command, context, nowMs);
    case 'heartbeat':
      return decideHeartbeat(state, command, context, nowMs);
    case 'touch':
      return decideTouch(state, command);
    case 'disconnected':
      return decideDisconnected(state, command);
    case 'leave':
      return decideLeave(state, command, context, nowMs);
    case 'timer':
      return decideTimer(state, command, context, nowMs);
    case 'topics-changed':
      return decideTopicsChanged(state, command, context, nowMs);
    case 'commit':
      return decideCommit(state, command, context, nowMs);
    case 'reset-offsets':
      return decideResetOffsets(state, command, context, nowMs);
    case 'delete-group':
      return decideDeleteGroup(state, command);
    case 'delete-offsets-of-topic':
      return decideDeleteOffsetsOfTopic(state, command);
    default:
      return unreachable(command, 'group command');
  }
}

/** Tells a refusal from every other reply. */
export function isRefusal(reply: object): reply is Refusal {
  return 'code' in reply;
}
