/** What a service does with a broker, whatever the broker: each client in the way that moves most with it. */
import type { ServerAddress } from '../peer-servers/server-kind.ts';

export interface TopicSpec {
  readonly name: string;
  readonly partitions: number;
  /** Groups that will subscribe. */
  readonly groups: readonly string[];
  /** `queue`: any member of the group takes any event; no order. */
  readonly kind: 'log' | 'queue';
}

export interface Outgoing {
  readonly key: string;
  /** Sent as JSON. */
  readonly value: object;
}

export interface PeerPublisher {
  /** Resolves when the server has acknowledged it. */
  publish(event: Outgoing): Promise<void>;
  /** Resolves when there is room for more; acknowledgements come later. */
  offer(events: readonly Outgoing[]): Promise<void>;
  /** Resolves when everything is acknowledged. @throws what failed */
  flush(): Promise<void>;
}

/** Called for every event; afterwards it counts as done, and is committed or acknowledged as the client has it. */
export type Handler = (value: object) => void;

export interface PeerClient {
  createTopic(topic: TopicSpec): Promise<void>;
  publisher(topic: TopicSpec): Promise<PeerPublisher>;
  /** One more member of `group`; at the beginning of the topic when the group is new. */
  subscribe(topic: TopicSpec, group: string, handler: Handler): Promise<void>;
  close(): Promise<void>;
}

export type OpenClient = (address: ServerAddress) => Promise<PeerClient> | PeerClient;
