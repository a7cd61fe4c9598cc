/** Held events as bytes: HeldEventValue of proto/naru/internal/v1/group.proto. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { toSafeInteger } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { HeldEventValueSchema, HeldState } from '@naru/protocol/group-records';
import type { HeldEvent } from './held-event.ts';

export function encodeHeldEvent(event: HeldEvent): Uint8Array {
  const { keyId, attempts, reason, error, redrives, sizeBytes } = event;
  return toBinary(
    HeldEventValueSchema,
    create(HeldEventValueSchema, {
      state: event.state === 'waiting' ? HeldState.WAITING : HeldState.DEAD,
      keyId,
      copyOffset: BigInt(event.copyOffset),
      attempts,
      notBeforeMs: BigInt(event.notBeforeMs),
      reason,
      error,
      firstFailureMs: BigInt(event.firstFailureMs),
      lastFailureMs: BigInt(event.lastFailureMs),
      atMs: BigInt(event.atMs),
      redrives,
      sizeBytes,
    }),
  );
}

/** @throws NaruError DATA_CORRUPT */
export function decodeHeldEvent(bytes: Uint8Array): HeldEvent {
  const value = fromBinary(HeldEventValueSchema, bytes);
  if (value.state === HeldState.UNSPECIFIED) {
    throw new NaruError('DATA_CORRUPT', 'a held event has a state that this version does not know');
  }
  return {
    state: value.state === HeldState.WAITING ? 'waiting' : 'dead',
    keyId: value.keyId,
    copyOffset: toSafeInteger(value.copyOffset, 'offset of the copy'),
    attempts: value.attempts,
    notBeforeMs: toSafeInteger(value.notBeforeMs, 'time of the next attempt'),
    reason: value.reason,
    error: value.error,
    firstFailureMs: toSafeInteger(value.firstFailureMs, 'time of the first failure'),
    lastFailureMs: toSafeInteger(value.lastFailureMs, 'time of the last failure'),
    atMs: toSafeInteger(value.atMs, 'time'),
    redrives: value.redrives,
    sizeBytes: value.sizeBytes,
  };
}
