/** What settings belong to, by Kafka's numbers, and the names that brokers go by there. */
import { KAFKA_NODE_ID } from '../kafka-handler.ts';
import { refused, type AdminAnswer } from './admin-answers.ts';

export const RESOURCE = { topic: 2, broker: 4, brokerLogger: 8 } as const;

/** Null when the name is this broker's. */
export function checkNodeName(name: string): AdminAnswer | null {
  if (name === String(KAFKA_NODE_ID)) return null;
  return refused('INVALID_REQUEST', `there is no broker ${JSON.stringify(name)}, only broker ${KAFKA_NODE_ID}`);
}

export const NAMED_TWICE = 'the resource is named twice';

/** What tells resources apart. */
export function keyOf(resource: { readonly resourceType: number; readonly resourceName: string }): string {
  return `${resource.resourceType} ${resource.resourceName}`;
}
