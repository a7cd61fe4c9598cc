import { expect, it } from 'vitest';
import { eventName, loadCatalog, soundness } from './catalog.ts';
import { POISON } from './poison.ts';
import { TOPIC, replay } from './webhooks.ts';

it('the catalog has every webhook, with GitHub’s own schemas, and nearly all of GitHub’s examples fit them', async () => {
  const catalog = await loadCatalog();
  const isSound = await soundness(catalog);
  const webhooks = [...replay(329)];
  for (const webhook of webhooks) expect(catalog.event(eventName(webhook)).topic).toBe(TOPIC);
  const checked = webhooks.filter((webhook) => catalog.event(eventName(webhook)).schema !== undefined);
  expect(checked.length).toBeGreaterThan(100);
  expect(checked.filter((webhook) => !isSound(webhook)).length).toBeLessThan(15);
  expect(POISON.filter((webhook) => isSound(webhook))).toEqual([]);
}, 30_000);
