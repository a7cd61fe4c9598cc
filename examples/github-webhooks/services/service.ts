/** What the three services have in common: they take webhooks, and can say what they made of them. */
import type { NaruEvent } from '@naru/client';
import type { WebhookPayload } from '../webhooks.ts';

export interface Service {
  /** The consumer group: every group gets every event, each event goes to one member of a group. */
  readonly group: string;
  /** Returning means done; throwing means that the event comes again. An event can come again after a crash, too. */
  handle(event: NaruEvent<WebhookPayload>): void | Promise<void>;
  /** One line for the report. */
  summary(): string;
}
