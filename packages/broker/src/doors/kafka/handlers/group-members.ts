/** What the handlers of both group protocols share: what they stand on, ids of members, errors, and waiting. */
import { randomUuidBytes, topicIdFromBytes, type Random } from '@naru/base';
import type { Refusal } from '@naru/protocol';
import { kafkaErrorCode, type KafkaAudience } from '@naru/protocol/kafka';
import type { TopicRegistry } from '../../../core/registry/topic-registry.ts';
import type { ShardClient } from '../../../runtime/commands.ts';
import type { KafkaCall } from '../kafka-handler.ts';

export interface GroupHandlerOptions {
  readonly shard: ShardClient;
  /** Follows the metadata: `MetadataFollower.registry`. */
  readonly registry: TopicRegistry;
  /** For the ids of members. */
  readonly random: Random;
}

/** Of what a client calls itself: what its member ids begin with, and what is kept to be shown. */
const MAX_SHOWN_LENGTH = 200;
const MAX_MESSAGE_LENGTH = 1_000;
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** The client's own name, as Kafka has it (KIP-345 for static members), and a UUID. */
export function newMemberId(random: Random, instanceId: string | null, call: KafkaCall): string {
  const uuid = topicIdFromBytes(randomUuidBytes(random));
  return `${shown(instanceId ?? call.clientId)}-${uuid}`;
}

/** Who joins, for operators. */
export function clientOf({ clientId, clientHost }: KafkaCall): { clientId: string; clientHost: string } {
  return { clientId: shown(clientId), clientHost };
}

function shown(name: string): string {
  return name.replaceAll(UNPRINTABLE, '_').slice(0, MAX_SHOWN_LENGTH);
}

/** Ids stand in lists, logs and keys: one that no client makes up is not let in. */
export function isPrintable(id: string): boolean {
  return id.search(UNPRINTABLE) === -1;
}

/** For the answer, in which a string has its limit, and a message may repeat an id of any length. */
export function messageOf({ message }: Refusal): string {
  return message.length <= MAX_MESSAGE_LENGTH ? message : `${message.slice(0, MAX_MESSAGE_LENGTH)}…`;
}

/** What stands in the answer: 0 for none. */
export function errorCodeOf(refusal: Refusal | null, audience: KafkaAudience): number {
  return refusal === null ? 0 : kafkaErrorCode(refusal.code, audience);
}

/** The reply, or null when the client goes away before. What was asked for happens all the same. */
export async function unlessGone<T>(reply: Promise<T>, signal: AbortSignal): Promise<T | null> {
  const { promise: whenGone, resolve } = Promise.withResolvers<null>();
  const gone = (): void => resolve(null);
  signal.addEventListener('abort', gone, { once: true });
  if (signal.aborted) gone();
  try {
    return await Promise.race([reply, whenGone]);
  } finally {
    signal.removeEventListener('abort', gone);
  }
}
