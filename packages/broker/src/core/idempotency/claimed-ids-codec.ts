/** Buckets of claimed and done ids as bytes: ClaimedIdsValue of proto/naru/internal/v1/group.proto. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { assert, toSafeInteger } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { ClaimedIdsValueSchema } from '@naru/protocol/group-records';
import { ID_LENGTH, type ClaimedIds } from './claimed-ids.ts';

export function encodeClaimedIds(value: ClaimedIds): Uint8Array {
  const ids = value.kind === 'claim' ? toBytes(value.ids, value.ids.size) : toBytes(value.ids, value.ids.length);
  const fields =
    value.kind === 'claim'
      ? {
          ids,
          memberId: value.memberId,
          joinEpoch: value.joinEpoch,
          leaseUntilMs: BigInt(Math.trunc(value.leaseUntilMs)),
        }
      : {
          ids,
          oldestMs: BigInt(Math.trunc(value.oldestMs)),
          newestMs: BigInt(Math.trunc(value.newestMs)),
          level: value.level,
        };
  return toBinary(ClaimedIdsValueSchema, create(ClaimedIdsValueSchema, fields));
}

/** @throws NaruError DATA_CORRUPT */
export function decodeClaimedIds(bytes: Uint8Array): ClaimedIds {
  const {
    ids: all,
    memberId,
    leaseUntilMs,
    oldestMs,
    newestMs,
    level,
    joinEpoch,
  } = fromBinary(ClaimedIdsValueSchema, bytes);
  if (all.length % ID_LENGTH !== 0) {
    throw new NaruError('DATA_CORRUPT', `${all.length} bytes of claimed ids are not a number of whole ids`);
  }
  const ids = toTexts(all);
  if (memberId !== '') {
    return {
      kind: 'claim',
      memberId,
      joinEpoch,
      leaseUntilMs: toSafeInteger(leaseUntilMs, 'lease'),
      ids: new Set(ids),
    };
  }
  return {
    kind: 'done',
    oldestMs: toSafeInteger(oldestMs, 'time'),
    newestMs: toSafeInteger(newestMs, 'time'),
    level,
    ids,
  };
}

function toBytes(ids: Iterable<string>, count: number): Uint8Array {
  const bytes = new Uint8Array(count * ID_LENGTH);
  let at = 0;
  for (const id of ids) {
    assert(id.length === ID_LENGTH, `an id of ${ID_LENGTH} bytes has ${id.length}`);
    for (let i = 0; i < ID_LENGTH; i++) bytes[at++] = id.charCodeAt(i);
  }
  return bytes;
}

function toTexts(bytes: Uint8Array): string[] {
  const ids: string[] = [];
  for (let at = 0; at < bytes.length; at += ID_LENGTH) {
    ids.push(String.fromCharCode(...bytes.subarray(at, at + ID_LENGTH)));
  }
  return ids;
}
