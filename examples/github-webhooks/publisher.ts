/** Publishes the stream at an even pace, whatever the broker does meanwhile. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Naru } from '@naru/client';
import { eventName } from './catalog.ts';
import { headersOf } from './webhooks.ts';
import type { Webhook } from './webhooks.ts';

const TICK_MS = 5;

export interface PublisherOptions {
  /** Events a second; 0 for as fast as it goes. */
  readonly rate: number;
  readonly signal: AbortSignal;
  /** Called with every event that was handed over. */
  handedOver(webhook: Webhook): void;
}

/**
 * Resolves when every event is durable or given up; `naru.onDelivery` tells which.
 *
 * There is no retrying in here: the SDK does it, without changing the order and without storing anything twice. While the
 * broker is away, events gather in the SDK's buffer; when that is full, `enqueue` says so, and `ready` waits.
 */
export async function publishAll(naru: Naru, webhooks: Iterable<Webhook>, options: PublisherOptions): Promise<void> {
  const { rate, signal } = options;
  const startedMs = performance.now();
  let count = 0;
  for (const webhook of webhooks) {
    while (rate > 0 && count >= ((performance.now() - startedMs) / 1000) * rate) {
      await sleep(TICK_MS, undefined, { signal });
    }
    const { key, payload } = webhook;
    while (!naru.enqueue(eventName(webhook), payload, { key, headers: headersOf(webhook) }))
      await naru.ready({ signal });
    options.handedOver(webhook);
    count += 1;
  }
  await naru.flush({ signal });
}
