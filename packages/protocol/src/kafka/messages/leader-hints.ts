/** Where to go instead, in answers to those who asked the wrong broker (KIP-951). */
import { array, int32, string, struct } from '../schema/field.ts';

export const currentLeader = struct({ leaderId: int32.or(-1), leaderEpoch: int32.or(-1) });

export const nodeEndpoints = array(
  struct({ nodeId: int32, host: string, port: int32, rack: string.nullable().or(null) }),
);
