/** How `naru trace` is told which event: `TOPIC/PARTITION/OFFSET`, or a request id. */
import { checkTopicName, decodeRequestId } from '@naru/protocol';
import { InvalidArgumentError } from 'commander';

export type EventArgument =
  | { readonly by: 'request-id'; readonly requestId: string }
  | { readonly by: 'place'; readonly topic: string; readonly partition: number; readonly offset: bigint };

const PLACE_PATTERN = /^([^/]+)\/(\d{1,10})\/(\d{1,16})$/;
const MAX_PARTITION = 0x7fff_ffff;

export function readEventArgument(text: string): EventArgument {
  const [, topic, partition, offset] = PLACE_PATTERN.exec(text) ?? [];
  if (topic !== undefined && partition !== undefined && offset !== undefined) {
    const refusal = checkTopicName(topic);
    if (refusal !== null) throw new InvalidArgumentError(`${refusal.message}.`);
    if (Number(partition) <= MAX_PARTITION && Number.isSafeInteger(Number(offset)))
      return { by: 'place', topic, partition: Number(partition), offset: BigInt(offset) };
  }
  const decoded = decodeRequestId(text);
  if ('topicId' in decoded) return { by: 'request-id', requestId: text };
  throw new InvalidArgumentError(`Expected TOPIC/PARTITION/OFFSET or a request id: ${decoded.message}.`);
}
