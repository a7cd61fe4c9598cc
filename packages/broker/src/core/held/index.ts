/**
 * Events that the broker keeps for groups: waiting to be given again in their key's order, or dead. What commits and operators do to
 * them is decided with the group (core/group).
 */
export type { HeldEvent } from './held-event.ts';
export { HeldPartition } from './held-partition.ts';
export type { Deliverable, KeyChanges } from './held-partition.ts';
export { readCopy } from './held-copy.ts';
