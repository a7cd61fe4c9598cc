/** The demo's event catalog, and which of GitHub's example payloads GitHub's own schemas take: a few are older than the schemas. */
import { fileURLToPath } from 'node:url';
import { Catalog } from '@naru/client';
import type { Serde } from '@naru/client';
import { TOPIC } from './webhooks.ts';
import type { Webhook } from './webhooks.ts';

/** Name of a webhook's event in the catalog. */
export function eventName({ name }: Pick<Webhook, 'name'>): string {
  return `github.${name}`;
}

export function loadCatalog(): Promise<Catalog> {
  return Catalog.load(fileURLToPath(new URL('events.yaml', import.meta.url)));
}

/** Tells whether the catalog takes a payload. Compiles the schemas. */
export async function soundness(catalog: Catalog): Promise<(webhook: Pick<Webhook, 'name' | 'payload'>) => boolean> {
  const serdes = new Map<string, Serde<unknown>>();
  for (const event of catalog.events.values()) serdes.set(event.name, await event.localSerde());
  return (webhook) => {
    try {
      void serdes.get(eventName(webhook))?.serialize(webhook.payload, { topic: TOPIC });
      return true;
    } catch {
      return false;
    }
  };
}
