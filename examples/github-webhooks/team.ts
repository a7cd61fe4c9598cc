/** The members of one service: as many as join, each with a connection of its own, as separate processes would have. */
import { connect } from '@naru/client';
import type { Naru, NaruEvent, TopicPartition } from '@naru/client';
import type { Service } from './services/service.ts';
import { TOPIC } from './webhooks.ts';
import type { WebhookPayload } from './webhooks.ts';

/** A service that is broken for good is known to be soon. */
const RETRY = { attempts: 3, backoff: { initialMs: 100, factor: 2, maxMs: 1_000, jitter: 0.2 } };

/** The demo looks on: every assignment, and every event that a service has handled. */
export interface Watcher {
  assigned(group: string, partitions: readonly TopicPartition[]): void;
  delivered(group: string, event: NaruEvent<WebhookPayload>): void;
  /** A member ended by itself, which it never should. */
  failed(group: string, error: unknown): void;
}

interface Member {
  readonly name: string;
  readonly naru: Naru;
}

export class Team {
  readonly service: Service;
  readonly #broker: string;
  readonly #watcher: Watcher;
  readonly #members: Member[] = [];
  #joined = 0;
  #mostMembers = 0;

  constructor(service: Service, broker: string, watcher: Watcher) {
    this.service = service;
    this.#broker = broker;
    this.#watcher = watcher;
  }

  get members(): number {
    return this.#members.length;
  }

  get mostMembers(): number {
    return this.#mostMembers;
  }

  /** One more member; the broker gives it its share of the partitions. */
  async join(): Promise<string> {
    this.#joined += 1;
    const { group } = this.service;
    const name = `${group}-${this.#joined}`;
    const naru = await connect({ brokers: [this.#broker], clientId: name });
    const subscriber = naru.subscriber(group, { concurrency: 16, retry: RETRY });
    subscriber.onAssigned((partitions) => this.#watcher.assigned(group, partitions));
    subscriber.handle<WebhookPayload>(TOPIC, async (event) => {
      await this.service.handle(event);
      this.#watcher.delivered(group, event);
    });
    subscriber.run().catch((error: unknown) => this.#watcher.failed(group, error));
    this.#members.push({ name, naru });
    this.#mostMembers = Math.max(this.#mostMembers, this.#members.length);
    return name;
  }

  /** The longest-serving member finishes what it has in hand, commits and leaves; the others take over. */
  async leave(): Promise<string | undefined> {
    const member = this.#members.shift();
    await member?.naru.close();
    return member?.name;
  }

  async close(): Promise<void> {
    await Promise.all(this.#members.splice(0).map(({ naru }) => naru.close()));
  }
}
