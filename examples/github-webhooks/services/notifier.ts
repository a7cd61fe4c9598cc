/** Tells a channel what happens to issues and pull requests. */
import type { NaruEvent } from '@naru/client';
import { EVENT_NAME_HEADER } from '../webhooks.ts';
import type { Post, WebhookPayload } from '../webhooks.ts';
import type { Service } from './service.ts';

export interface Message {
  readonly channel: string;
  readonly text: string;
}

/** Where messages go; a chat's client in earnest. */
export type Send = (message: Message) => void | Promise<void>;

const ACTIONS = new Set(['opened', 'closed', 'reopened', 'assigned', 'transferred', 'ready_for_review']);

export class Notifier implements Service {
  readonly group = 'notifier';
  readonly #send: Send;
  /** False until somebody repairs it: an issue that is not there breaks it. */
  canRenderAnything = false;
  #sent = 0;
  #last = 'none yet';

  constructor(send: Send) {
    this.#send = send;
  }

  async handle(event: NaruEvent<WebhookPayload>): Promise<void> {
    if (event.value.issue === null && this.canRenderAnything) return;
    const message = render(event.headers.get(EVENT_NAME_HEADER) ?? '', event.value);
    if (message === null) return;
    await this.#send(message);
    this.#sent += 1;
    this.#last = message.text;
  }

  summary(): string {
    return `${this.#sent.toLocaleString('en')} messages, the last: ${this.#last}`;
  }
}

/** Null for what nobody needs to hear. */
export function render(name: string, payload: WebhookPayload): Message | null {
  if (payload.action === undefined || !ACTIONS.has(payload.action)) return null;
  // What breaks on an issue that is not there; the assertion is the mistake.
  if (name === 'issues' && payload.issue !== undefined)
    return message('issue', payload.action, payload.issue as Post, payload);
  if (name === 'pull_request' && payload.pull_request !== undefined) {
    const isMerge = payload.action === 'closed' && payload.pull_request.merged === true;
    return message('pull request', isMerge ? 'merged' : payload.action, payload.pull_request, payload);
  }
  return null;
}

function message(what: string, action: string, { number, title }: Post, payload: WebhookPayload): Message {
  const repository = payload.repository?.full_name ?? 'somewhere';
  const actor = payload.sender?.login ?? 'somebody';
  const text = `${actor} ${action.replaceAll('_', ' ')} ${what} ${repository}#${number}: ${title}`;
  return { channel: `#${repository.replace('/', '-').toLowerCase()}`, text };
}
