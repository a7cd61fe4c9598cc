/** Everything that Kafka clients ask a group coordinator. */
import { classicGroupHandlers } from './classic-group.ts';
import { consumerGroupHandlers } from './consumer-group.ts';
import { describeGroupsHandlers } from './describe-groups.ts';
import { findCoordinatorHandlers } from './find-coordinator.ts';
import type { GroupHandlerOptions } from './group-members.ts';
import { listGroupsHandlers } from './list-groups.ts';
import { offsetCommitHandlers } from './offset-commit.ts';
import { offsetDeleteHandlers } from './offset-delete.ts';
import { offsetFetchHandlers } from './offset-fetch.ts';

export type { GroupHandlerOptions } from './group-members.ts';

export function groupHandlers(options: GroupHandlerOptions) {
  return {
    ...findCoordinatorHandlers(),
    ...classicGroupHandlers(options),
    ...consumerGroupHandlers(options),
    ...offsetCommitHandlers(options),
    ...offsetFetchHandlers(options),
    ...offsetDeleteHandlers(options),
    ...describeGroupsHandlers(options),
    ...listGroupsHandlers(options),
  };
}
