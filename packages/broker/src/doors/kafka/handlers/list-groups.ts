/**
 * ListGroups 0–5 and DeleteGroups 0–2.
 *
 * As in Kafka: filters by state (from version 4) and type (from 5) are whatever case they are in; a group with members is
 * not deleted (NON_EMPTY_GROUP).
 *
 * Differs from Kafka: a group that never had a member of the classic protocol, such as one with offsets only, is of type
 * `consumer`, since the broker would assign to it.
 */
import { checkGroupId } from '@naru/protocol';
import { kafkaErrorCode } from '@naru/protocol/kafka';
import { isRefusal } from '../../../runtime/commands.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import { errorCodeOf, type GroupHandlerOptions } from './group-members.ts';
import { KAFKA_STATE_NAMES } from './group-states.ts';

export function listGroupsHandlers({
  shard,
}: Pick<GroupHandlerOptions, 'shard'>): Pick<KafkaHandlers, 'listGroups' | 'deleteGroups'> {
  return {
    listGroups: {
      handle: async ({ statesFilter, typesFilter }) => {
        const listed = await shard.submit({ type: 'list-groups' });
        if (isRefusal(listed)) return noGroups(errorCodeOf(listed, 'group'));
        const [states, types] = [folded(statesFilter), folded(typesFilter)];
        const groups = listed
          .map(({ groupId, protocolType, state, type }) => ({
            groupId,
            protocolType,
            groupState: KAFKA_STATE_NAMES[state],
            groupType: type,
          }))
          .filter(({ groupState, groupType }) => passes(states, groupState) && passes(types, groupType));
        return { throttleTimeMs: 0, errorCode: 0, groups };
      },
      failed: (_request, { code }) => noGroups(kafkaErrorCode(code, 'group')),
    },
    deleteGroups: {
      handle: async ({ groupsNames }) => {
        const results = [];
        for (const groupId of groupsNames) {
          const wrong = checkGroupId(groupId);
          const reply = wrong ?? (await shard.submit({ type: 'group', command: { type: 'delete-group', groupId } }));
          results.push({ groupId, errorCode: errorCodeOf(isRefusal(reply) ? reply : null, 'group') });
        }
        return { throttleTimeMs: 0, results };
      },
      failed: ({ groupsNames }, { code }) => ({
        throttleTimeMs: 0,
        results: groupsNames.map((groupId) => ({ groupId, errorCode: kafkaErrorCode(code, 'group') })),
      }),
    },
  };
}

function noGroups(errorCode: number) {
  return { throttleTimeMs: 0, errorCode, groups: [] };
}

function folded(names: readonly string[]): ReadonlySet<string> {
  return new Set(names.map((name) => name.trim().toLowerCase()));
}

function passes(filter: ReadonlySet<string>, name: string): boolean {
  return filter.size === 0 || filter.has(name.toLowerCase());
}
