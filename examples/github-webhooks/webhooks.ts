/**
 * The stream of webhooks: GitHub's own example payloads, unchanged, replayed in a circle.
 *
 * As on GitHub, every delivery has an id of its own. Beside it, every event carries its number within its key, which
 * nothing but the demo's bookkeeping needs: it shows whether order was kept.
 */
import { randomUUID } from 'node:crypto';
import file from '@octokit/webhooks-examples' with { type: 'json' };

export const TOPIC = 'github.webhooks';

/** Header names: the first two are GitHub's. */
export const EVENT_NAME_HEADER = 'x-github-event';
export const DELIVERY_HEADER = 'x-github-delivery';
export const SEQUENCE_HEADER = 'x-demo-sequence';

/** What the services read of a payload; GitHub sends much more. */
export interface WebhookPayload {
  readonly action?: string;
  readonly sender?: { readonly login?: string };
  readonly organization?: { readonly login?: string };
  readonly repository?: { readonly full_name?: string };
  /** Null when GitHub sends one that is not there: see poison.ts. */
  readonly issue?: Post | null;
  readonly pull_request?: Post & { readonly merged?: boolean | null };
  readonly discussion?: Post;
  readonly comment?: Post;
  readonly release?: Post & { readonly name?: string | null };
}

/** Something that somebody wrote. */
export interface Post {
  readonly html_url?: string;
  readonly number?: number;
  readonly title?: string;
  readonly body?: string | null;
}

export interface Webhook {
  readonly name: string;
  /** What is kept in order: the repository, or whose event it is when it belongs to none. */
  readonly key: string;
  /** 1, 2, 3… within the key. */
  readonly sequence: number;
  readonly payload: WebhookPayload;
}

/** The headers to publish `webhook` with. */
export function headersOf({ name, sequence }: Webhook): Record<string, string> {
  return { [EVENT_NAME_HEADER]: name, [DELIVERY_HEADER]: randomUUID(), [SEQUENCE_HEADER]: String(sequence) };
}

/** `count` webhooks, of those that are wanted. Default: all. */
export function* replay(
  count: number,
  isWanted: (webhook: Pick<Webhook, 'name' | 'payload'>) => boolean = () => true,
): Generator<Webhook, void> {
  const examples = loadExamples().filter(isWanted);
  const sequences = new Map<string, number>();
  for (let index = 0; index < count; index++) {
    const { name, key, payload } = examples[index % examples.length] as Omit<Webhook, 'sequence'>;
    const sequence = (sequences.get(key) ?? 0) + 1;
    sequences.set(key, sequence);
    yield { name, key, sequence, payload };
  }
}

/** The package's file, as far as we read it: its own types are of a module, and this is JSON. */
type ExamplesFile = readonly { readonly name: string; readonly examples: readonly WebhookPayload[] }[];

function loadExamples(): Omit<Webhook, 'sequence'>[] {
  return (file as unknown as ExamplesFile).flatMap(({ name, examples }) =>
    examples.map((payload) => ({ name, key: keyOf(name, payload), payload })),
  );
}

function keyOf(name: string, { repository, organization, sender }: WebhookPayload): string {
  return repository?.full_name ?? organization?.login ?? sender?.login ?? name;
}
