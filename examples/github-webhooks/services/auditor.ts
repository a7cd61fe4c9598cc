/** Counts who did what. */
import type { NaruEvent } from '@naru/client';
import { EVENT_NAME_HEADER } from '../webhooks.ts';
import type { WebhookPayload } from '../webhooks.ts';
import type { Service } from './service.ts';

export class Auditor implements Service {
  readonly group = 'auditor';
  /** By actor, then by what was done, such as `issues.opened`. */
  readonly #counts = new Map<string, Map<string, number>>();

  handle(event: NaruEvent<WebhookPayload>): void {
    const { action, sender } = event.value;
    const actor = sender?.login ?? 'github';
    const name = event.headers.get(EVENT_NAME_HEADER) ?? 'unknown';
    const deed = action === undefined ? name : `${name}.${action}`;
    const deeds = this.#counts.get(actor) ?? new Map<string, number>();
    this.#counts.set(actor, deeds);
    deeds.set(deed, (deeds.get(deed) ?? 0) + 1);
  }

  /** Actors with all their deeds, the most active first. */
  ranking(): { actor: string; deeds: number }[] {
    const ranking = [...this.#counts].map(([actor, deeds]) => ({
      actor,
      deeds: [...deeds.values()].reduce((sum, count) => sum + count, 0),
    }));
    return ranking.sort((a, b) => b.deeds - a.deeds);
  }

  summary(): string {
    const [first] = this.ranking();
    if (first === undefined) return 'nobody did anything';
    const kinds = this.#counts.get(first.actor)?.size ?? 0;
    const deeds = first.deeds.toLocaleString('en');
    return `${this.#counts.size} actors; the most active is ${first.actor} with ${deeds} events of ${kinds} kinds`;
  }
}
