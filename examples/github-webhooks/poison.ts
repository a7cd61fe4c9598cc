/**
 * A payload that breaks a service: how it becomes a dead letter, waits with what comes after it, and is handled after a fix.
 *
 * GitHub sends an issue that is not there. The notifier cannot render it, so after its attempts the event is a dead letter of the
 * notifier, and, as the topic's settings have it, its key is parked: the next event of that repository waits. Everybody else goes on.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { EventTrace, Naru } from '@naru/client';
import type { Notifier } from './services/notifier.ts';
import { TOPIC, headersOf } from './webhooks.ts';
import type { Webhook } from './webhooks.ts';

const REPOSITORY = 'octo-org/moved-away';
const LOOK_INTERVAL_MS = 20;
const WAIT_TIMEOUT_MS = 20_000;

export interface PoisonOutcome {
  readonly requestId: string;
  /** As the dead letter had it. */
  readonly reason: string;
  readonly error: string;
  readonly attempts: number;
  /** Events of its key that waited behind it. */
  readonly parkedBehind: number;
  /** In the end. */
  readonly trace: EventTrace;
}

/** The payload that breaks the notifier, and a sound one of the same repository. */
export const POISON: readonly Webhook[] = [null, { number: 2, title: 'Where did it go?' }].map((issue, index) => ({
  name: 'issues',
  key: REPOSITORY,
  sequence: index + 1,
  payload: { action: 'opened', issue, sender: { login: 'octocat' }, repository: { full_name: REPOSITORY } },
}));

export class Poison {
  readonly #naru: Naru;
  readonly #notifier: Notifier;
  #requestIds: readonly string[] = [];

  constructor(naru: Naru, notifier: Notifier) {
    this.#naru = naru;
    this.#notifier = notifier;
  }

  /** Resolves when both events are durable. */
  async publish(): Promise<void> {
    const sent = POISON.map((webhook) => {
      const { key, payload } = webhook;
      return this.#naru.publish(TOPIC, payload, { key, headers: headersOf(webhook) });
    });
    this.#requestIds = (await Promise.all(sent)).map(({ requestId }) => requestId);
  }

  /** Resolves when the event is a dead letter and the one after it waits. */
  async parked(
    signal: AbortSignal,
  ): Promise<{ attempts: number; reason: string; error: string; parkedBehind: number }> {
    for (;;) {
      for await (const letter of this.#naru.deadLetters.list(this.#notifier.group, { signal })) {
        if (letter.parkedBehind === POISON.length - 1) return letter;
      }
      await sleep(LOOK_INTERVAL_MS, undefined, { signal });
    }
  }

  /** The fix: then the dead letter is given to the notifier again. Resolves when every group has processed both events. */
  async redrive(signal: AbortSignal): Promise<PoisonOutcome> {
    const { attempts, reason, error, parkedBehind } = await this.parked(signal);
    this.#notifier.canRenderAnything = true;
    await this.#naru.deadLetters.redrive(this.#notifier.group, { signal });
    for (const id of this.#requestIds) await this.#naru.wait(id, { signal, timeoutMs: WAIT_TIMEOUT_MS });
    const [requestId = ''] = this.#requestIds;
    const trace = await this.#naru.trace(requestId, { signal });
    return { requestId, reason, error, attempts, parkedBehind, trace };
  }
}
