/** Bit field of what a client may do, in answers to those that ask for it. */
import { int32 } from '../schema/field.ts';

/** What stands there when nobody asked. */
export const OPERATIONS_NOT_ASKED = -2_147_483_648;

export const authorizedOperations = int32.or(OPERATIONS_NOT_ASKED);
