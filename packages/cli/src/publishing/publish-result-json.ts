/** Where a published event is, as the command prints it. */
import type { PublishResult } from '@naru/client';

export function publishResultJson({ requestId, topic, partition, offset, timestampMs }: PublishResult): object {
  return { requestId, topic, partition, offset, timestampMs };
}
