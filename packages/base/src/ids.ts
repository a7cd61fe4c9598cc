/**
 * Branded identifiers. A topic is known by its id: a name can be deleted and created anew, an id is never given twice.
 */
declare const brand: unique symbol;
export type Brand<T, B extends string> = T & { readonly [brand]: B };

/** A topic's UUID in canonical lower-case text form. */
export type TopicId = Brand<string, 'TopicId'>;
/** `<topic id>:<partition>`, the key of a partition inside a broker. */
export type PartitionKey = Brand<string, 'PartitionKey'>;

const UUID_PATTERN = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export function isTopicId(text: string): text is TopicId {
  return UUID_PATTERN.test(text);
}

/** @param bytes 16 bytes */
export function topicIdFromBytes(bytes: Uint8Array): TopicId {
  let hex = '';
  for (const byte of bytes) hex += byte.toString(16).padStart(2, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}` as TopicId;
}

/** 16 bytes. */
export function topicIdToBytes(id: TopicId): Uint8Array {
  const hex = id.replaceAll('-', '');
  const bytes = new Uint8Array(16);
  for (let i = 0; i < 16; i++) bytes[i] = Number.parseInt(hex.slice(i * 2, i * 2 + 2), 16);
  return bytes;
}

export function partitionKey(topicId: TopicId, partition: number): PartitionKey {
  return `${topicId}:${partition}` as PartitionKey;
}

export function splitPartitionKey(key: PartitionKey): { topicId: TopicId; partition: number } {
  return { topicId: key.slice(0, 36) as TopicId, partition: Number(key.slice(37)) };
}
