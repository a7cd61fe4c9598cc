/**
 * Kafka clients on a table, for tests: what a consumer of each kind asks, and what it works on because of the answers.
 * They know nothing of the group's state, as real ones do not.
 *
 * `eager` and `cooperative` speak the classic protocol, and assign when they lead; `consumer` speaks KIP-848's.
 */
import { assert } from '@naru/base';
import type { PartitionKey } from '@naru/base';
import type { Refusal } from '@naru/protocol';
import { comparePartitions } from './group-state.ts';
import type {
  ClassicAssignment,
  ClassicHeartbeatReply,
  ClassicJoinCommand,
  ClassicJoinReply,
  ClassicSyncCommand,
  ClassicSyncReply,
  KafkaHeartbeatCommand,
  KafkaHeartbeatReply,
  Parked,
} from './kafka-commands.ts';
import { GROUP_ID } from './group-scenario.ts';

const TEXT = new TextEncoder();
const FROM_TEXT = new TextDecoder();

export type ClientKind = 'eager' | 'cooperative' | 'consumer';

/** What a member of the classic protocol tells its leader. */
interface Metadata {
  readonly topics: readonly string[];
  readonly owned: readonly PartitionKey[];
}

export function bytesOf(value: unknown): Uint8Array {
  return TEXT.encode(JSON.stringify(value));
}

export function valueOf(bytes: Uint8Array): unknown {
  return bytes.length === 0 ? [] : JSON.parse(FROM_TEXT.decode(bytes));
}

export function classicJoin(memberId: string, changes: Partial<ClassicJoinCommand> = {}): ClassicJoinCommand {
  const subscription = changes.subscription === undefined ? { topics: ['orders'], owned: [] } : changes.subscription;
  return {
    type: 'classic-join',
    groupId: GROUP_ID,
    memberId,
    newMemberId: 'new',
    requiresMemberId: false,
    canSkipAssignment: false,
    instanceId: null,
    protocolType: 'consumer',
    protocols: [{ name: 'range', metadata: bytesOf(subscription) }],
    sessionTimeoutMs: 10_000,
    rebalanceTimeoutMs: 60_000,
    clientId: 'test',
    clientHost: '127.0.0.1',
    ...changes,
    subscription,
  };
}

export function classicSync(
  memberId: string,
  generation: number,
  assignments: readonly ClassicAssignment[] = [],
): ClassicSyncCommand {
  const names = { protocolType: null, protocolName: null };
  return { type: 'classic-sync', groupId: GROUP_ID, memberId, instanceId: null, generation, ...names, assignments };
}

export function assignment(memberId: string, partitions: readonly PartitionKey[]): ClassicAssignment {
  return { memberId, assignment: bytesOf(partitions), partitions };
}

export function kafkaHeartbeat(memberId: string, changes: Partial<KafkaHeartbeatCommand> = {}): KafkaHeartbeatCommand {
  const isJoin = (changes.memberEpoch ?? 0) === 0;
  return {
    type: 'kafka-heartbeat',
    groupId: GROUP_ID,
    memberId,
    newMemberId: 'new',
    memberEpoch: 0,
    instanceId: null,
    rebalanceTimeoutMs: isJoin ? 60_000 : null,
    topics: isJoin ? ['orders'] : null,
    topicPattern: null,
    serverAssignor: null,
    owned: isJoin ? [] : null,
    clientId: 'test',
    clientHost: '127.0.0.1',
    ...changes,
  };
}

/** Asks the group; the test decides what becomes of it. */
export type Ask = (
  command: ReturnType<typeof classicJoin> | ClassicSyncCommand | KafkaHeartbeatCommand | ClassicHeartbeat,
) => unknown;

interface ClassicHeartbeat {
  readonly type: 'classic-heartbeat';
  readonly groupId: string;
  readonly memberId: string;
  readonly instanceId: string | null;
  readonly generation: number;
}

export interface ClientOptions {
  readonly kind: ClientKind;
  /** Ids that it is given when it has none. */
  readonly newId: () => string;
  readonly instanceId: string | null;
  readonly topics: readonly string[];
  /** All partitions of a topic, for the one that leads. */
  readonly partitionsOf: (topic: string) => readonly PartitionKey[];
  readonly ask: Ask;
}

export class KafkaClient {
  readonly options: ClientOptions;
  memberId = '';
  /** Generation or member epoch. */
  epoch = 0;
  /** What it works on. */
  readonly working = new Set<PartitionKey>();
  /** What it does next. */
  state: 'join' | 'wait-join' | 'sync' | 'wait-sync' | 'in' = 'join';
  #lead: Extract<ClassicJoinReply, { outcome: 'joined' }> | null = null;
  #sayAll = false;

  constructor(options: ClientOptions) {
    this.options = options;
  }

  /** Goes one step on. @param lost the answer does not arrive; what was asked did */
  act(lost = false): void {
    if (this.options.kind === 'consumer') return this.#heartbeat848(lost);
    switch (this.state) {
      case 'join':
        return this.#join(lost);
      case 'sync':
        return this.#sync(lost);
      case 'in': {
        const { instanceId } = this.options;
        const heartbeat = { memberId: this.memberId, instanceId, generation: this.epoch, groupId: GROUP_ID };
        const reply = this.options.ask({ type: 'classic-heartbeat', ...heartbeat }) as ClassicHeartbeatReply | Refusal;
        if (lost) return undefined;
        if ('code' in reply) return this.#refused(reply);
        if (reply.mustJoin) this.state = 'join';
        return undefined;
      }
      case 'wait-join':
      case 'wait-sync':
        return undefined;
    }
  }

  /** The connection broke while it waited. */
  disconnected(): void {
    if (this.state !== 'in') this.state = 'join';
  }

  joined(reply: ClassicJoinReply | Refusal): void {
    if ('code' in reply) return this.#refused(reply);
    this.memberId = reply.memberId;
    if (reply.outcome === 'member-id-required') {
      this.state = 'join';
      return undefined;
    }
    this.epoch = reply.generation;
    this.#lead = reply.leaderId === reply.memberId && !reply.skipAssignment ? reply : null;
    this.state = 'sync';
    return undefined;
  }

  synced(reply: ClassicSyncReply | Refusal): void {
    if ('code' in reply) return this.#refused(reply);
    const { assignment: given } = reply;
    const partitions = given.by === 'broker' ? given.partitions : (valueOf(given.bytes) as PartitionKey[]);
    const revoked = [...this.working].filter((partition) => !partitions.includes(partition));
    for (const partition of revoked) this.working.delete(partition);
    for (const partition of partitions) this.working.add(partition);
    this.state = revoked.length > 0 ? 'join' : 'in';
    return undefined;
  }

  #join(lost: boolean): void {
    const { kind, topics, newId, instanceId, ask } = this.options;
    if (kind === 'eager') this.working.clear();
    const subscription = { topics, owned: [...this.working].sort(comparePartitions) };
    const name = kind === 'eager' ? 'range' : 'cooperative-sticky';
    const protocols = [{ name, metadata: bytesOf(subscription) }];
    const identity = { newMemberId: newId(), instanceId, requiresMemberId: true, canSkipAssignment: true };
    const command = classicJoin(this.memberId, { ...identity, subscription, protocols });
    const reply = ask(command) as ClassicJoinReply | Parked | Refusal;
    if ('parked' in reply) this.state = lost ? 'join' : 'wait-join';
    else if (!lost) this.joined(reply);
  }

  #sync(lost: boolean): void {
    const command = { ...classicSync(this.memberId, this.epoch, this.#lead === null ? [] : this.#assign(this.#lead)) };
    const reply = this.options.ask({ ...command, instanceId: this.options.instanceId }) as
      | ClassicSyncReply
      | Parked
      | Refusal;
    if (lost) this.state = 'join';
    else if ('parked' in reply) this.state = 'wait-sync';
    else this.synced(reply);
  }

  /** Round robin; a cooperative leader leaves out what its owner has to give up first. */
  #assign({ members }: Extract<ClassicJoinReply, { outcome: 'joined' }>): ClassicAssignment[] {
    const said = members.map(({ memberId, metadata }) => ({ memberId, ...(valueOf(metadata) as Metadata) }));
    const given = new Map(said.map(({ memberId }) => [memberId, [] as PartitionKey[]]));
    for (const topic of new Set(said.flatMap(({ topics }) => topics))) {
      const takers = said.filter(({ topics }) => topics.includes(topic));
      this.options.partitionsOf(topic).forEach((partition, index) => {
        const taker = takers[index % takers.length]!.memberId;
        const owner = said.find(({ owned }) => owned.includes(partition))?.memberId;
        if (owner === undefined || owner === taker) given.get(taker)!.push(partition);
      });
    }
    return [...given].map(([memberId, partitions]) => assignment(memberId, partitions));
  }

  #heartbeat848(lost: boolean): void {
    const { topics, newId, instanceId, ask } = this.options;
    const isFull = this.epoch === 0 || this.#sayAll;
    const owned = [...this.working].sort(comparePartitions);
    const reply = ask(
      kafkaHeartbeat(this.memberId, {
        newMemberId: newId(),
        memberEpoch: this.epoch,
        instanceId,
        rebalanceTimeoutMs: isFull ? 60_000 : null,
        topics: isFull ? topics : null,
        owned,
      }),
    ) as KafkaHeartbeatReply | Refusal;
    this.#sayAll = lost;
    if (lost) return;
    if ('code' in reply) return this.#refused(reply);
    this.memberId = reply.memberId;
    this.epoch = reply.memberEpoch;
    this.state = 'in';
    if (reply.assigned === null) return;
    for (const partition of this.working) if (!reply.assigned.includes(partition)) this.working.delete(partition);
    for (const partition of reply.assigned) this.working.add(partition);
  }

  /** As real clients take it: some codes mean to join again, some to begin anew. */
  #refused({ code, message }: Refusal): void {
    switch (code) {
      case 'REBALANCE_IN_PROGRESS':
        this.state = 'join';
        return;
      case 'UNKNOWN_MEMBER_ID':
      case 'ILLEGAL_GENERATION':
      case 'FENCED_MEMBER_EPOCH':
        this.working.clear();
        // KIP-848 members keep the id that they have for life.
        if (code === 'UNKNOWN_MEMBER_ID' && this.options.kind !== 'consumer') this.memberId = '';
        this.epoch = 0;
        this.state = 'join';
        return;
      case 'INCONSISTENT_GROUP_PROTOCOL':
      case 'UNRELEASED_INSTANCE_ID':
        this.working.clear();
        // The application sees it, and begins again with a new client.
        if (this.options.kind !== 'consumer') this.memberId = '';
        this.epoch = 0;
        this.state = 'join';
        return;
      default:
        assert(false, `a client does not expect ${code}: ${message}`);
    }
  }
}
