/** Claims of events on the wire. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { ClaimState, type ClaimedSchema } from '@naru/protocol/proto';
import type { SessionEvent } from '../../service/session-events.ts';
import { toErrorMessage } from './wire-errors.ts';

const STATES = { claimed: ClaimState.CLAIMED, done: ClaimState.DONE, busy: ClaimState.BUSY } as const;

export function toWireClaimed({
  claimId,
  results,
  refusal,
}: Extract<SessionEvent, { type: 'claimed' }>): MessageInitShape<typeof ClaimedSchema> {
  return {
    claimId,
    results: results.map(({ state, untilMs }) => ({ state: STATES[state], untilMs: BigInt(Math.trunc(untilMs)) })),
    ...(refusal === null ? {} : { error: toErrorMessage(refusal) }),
  };
}
