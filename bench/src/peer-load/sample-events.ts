/** The events that the services send: an order as JSON, about 1 KiB, with the time at which it was made. */
import { sharedNowMs } from '../measurement.ts';
import { keys } from '../payload.ts';
import { order } from '../serialization/sample-order.ts';
import type { Outgoing } from '../peer-clients/peer-client.ts';

const customers = keys();

/** Of one event's value, as JSON. */
export const EVENT_BYTES = Buffer.byteLength(JSON.stringify(sampleEvent(0).value));

export function sampleEvent(index: number): Outgoing {
  const key = customers[index % customers.length] as string;
  const id = `order-${String(index).padStart(12, '0')}`;
  return { key, value: { ...order, id, customer: key, sentAtMs: sharedNowMs() } };
}

/** When it was made, on the clock that the processes of a machine share. */
export function sentAtMs(value: object): number {
  return (value as { sentAtMs: number }).sentAtMs;
}
