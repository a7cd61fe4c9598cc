/**
 * What consumers tell each other through a classic group: Subscription (in JoinGroup) and Assignment (in SyncGroup), of the
 * protocol type `consumer`, versions 0 to 3.
 *
 * A later version is read as version 3 and what it adds is ignored, as Kafka's clients do with one another; a version that
 * is negative is an error. A message that ends where version 0 ends is read as version 0 whatever it calls itself: assigners
 * written for kafkajs, which encodes version 0 only, are free to choose the number. Byte fields are views.
 */
import { assert } from '@naru/base';
import { NaruError } from '../errors.ts';
import { decodeStruct } from './schema/decode-struct.ts';
import { encodeStruct } from './schema/encode-struct.ts';
import { array, bytes, int32, string, struct } from './schema/field.ts';
import type { Decoded, Encodable, Fields } from './schema/field.ts';
import { MalformedMessageError } from './schema/malformed-message-error.ts';
import { planStruct } from './schema/plan.ts';
import type { StructPlan } from './schema/plan.ts';
import { WireReader } from './schema/wire-reader.ts';
import { WireWriter } from './schema/wire-writer.ts';

export const CONSUMER_PROTOCOL_MAX_VERSION = 3;
const VERSION_BYTES = 2;

const topicPartitions = array(struct({ topic: string, partitions: array(int32) }));

const subscriptionFields = {
  topics: array(string),
  userData: bytes.nullable().or(null),
  ownedPartitions: topicPartitions.since(1),
  generationId: int32.since(2).or(-1),
  rackId: string.since(3).nullable(3).or(null),
};
const assignmentFields = { assignedPartitions: topicPartitions, userData: bytes.nullable().or(null) };

export type ConsumerSubscription = Decoded<typeof subscriptionFields>;
export type ConsumerAssignment = Decoded<typeof assignmentFields>;

function plansOf(fields: Fields): StructPlan[] {
  return Array.from({ length: CONSUMER_PROTOCOL_MAX_VERSION + 1 }, (_, version) => planStruct(fields, version, false));
}
const subscriptionPlans = plansOf(subscriptionFields);
const assignmentPlans = plansOf(assignmentFields);

/** @throws NaruError INVALID_REQUEST */
export function decodeConsumerSubscription(data: Uint8Array): { version: number; subscription: ConsumerSubscription } {
  const { version, value } = decode(data, subscriptionPlans, 'subscription');
  return { version, subscription: value as ConsumerSubscription };
}

/** @throws NaruError INVALID_REQUEST */
export function decodeConsumerAssignment(data: Uint8Array): { version: number; assignment: ConsumerAssignment } {
  const { version, value } = decode(data, assignmentPlans, 'assignment');
  return { version, assignment: value as ConsumerAssignment };
}

/** @param version 0 to 3 */
export function encodeConsumerSubscription(
  version: number,
  subscription: Encodable<typeof subscriptionFields>,
): Uint8Array {
  return encode(version, subscriptionPlans, subscription);
}

/** @param version 0 to 3: that of the member's subscription */
export function encodeConsumerAssignment(version: number, assignment: Encodable<typeof assignmentFields>): Uint8Array {
  return encode(version, assignmentPlans, assignment);
}

function decode(data: Uint8Array, plans: readonly StructPlan[], what: string): { version: number; value: unknown } {
  const reader = new WireReader(data);
  try {
    const version = reader.int16();
    if (version < 0) reader.fail(`version ${version}`);
    const value = decodeStruct(reader, plans[0] as StructPlan);
    if (version === 0 || reader.position === data.length) return { version, value };
    const plan = plans[Math.min(version, CONSUMER_PROTOCOL_MAX_VERSION)] as StructPlan;
    return { version, value: decodeStruct(new WireReader(data, VERSION_BYTES), plan) };
  } catch (error) {
    if (!(error instanceof MalformedMessageError)) throw error;
    const where = `${error.path === '' ? '' : ` ${error.path},`} byte ${error.position}`;
    throw new NaruError('INVALID_REQUEST', `the consumer's ${what} cannot be read:${where}: ${error.message}`);
  }
}

function encode(version: number, plans: readonly StructPlan[], value: Readonly<Record<string, unknown>>): Uint8Array {
  const writer = new WireWriter();
  writer.int16(version);
  const plan = plans[version];
  assert(plan !== undefined, `version ${version} of the consumer protocol is known`);
  encodeStruct(writer, plan, value);
  const data = new Uint8Array(writer.size);
  let at = 0;
  for (const part of writer.finish()) {
    data.set(part, at);
    at += part.length;
  }
  return data;
}
