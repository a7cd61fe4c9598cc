/** Whether what a member knows is what is so. */
import type { PartitionKey } from '@naru/base';
import type { MemberView } from '../core/group/index.ts';

export function sameView(a: MemberView, b: MemberView): boolean {
  return a.memberEpoch === b.memberEpoch && sameList(a.assigned, b.assigned) && sameList(a.revoking, b.revoking);
}

function sameList(a: readonly PartitionKey[], b: readonly PartitionKey[]): boolean {
  return a.length === b.length && a.every((key, index) => key === b[index]);
}
