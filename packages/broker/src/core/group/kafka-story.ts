/**
 * The life of a group with Kafka clients, told step by step in lines that a person can compare: what each step recorded, what
 * clients work on because of it, and the state that the group is in then. For tests.
 */
import { assert } from '@naru/base';
import { GroupScenario } from './group-scenario.ts';
import type { GroupRecord } from './group-state.ts';
import { comparePartitions } from './group-state.ts';
import { groupStateName } from './inspect.ts';
import { KafkaClient, kafkaHeartbeat, type ClientKind } from './kafka-clients.ts';
import type { ClassicJoinReply, ClassicSyncReply, ParkedAnswer } from './kafka-commands.ts';

export class KafkaStory {
  readonly group: GroupScenario;
  readonly lines: string[] = [];
  readonly #clients = new Map<string, KafkaClient>();
  readonly #working = new Map<string, string>();

  constructor(topics: Readonly<Record<string, number>>) {
    this.group = new GroupScenario(topics);
  }

  /** A client, whose member id is its name when it does not bring one. It does nothing yet. */
  client(name: string, kind: ClientKind, instanceId: string | null = null): KafkaClient {
    const { group } = this;
    const client = new KafkaClient({
      kind,
      newId: () => name,
      instanceId,
      topics: ['t'],
      partitionsOf: (topic) =>
        group.keys(...Array.from({ length: group.partitionCount(topic) }, (_, i) => `${topic}/${i}`)),
      ask: (command) => group.decide(command).reply,
    });
    this.#clients.set(name, client);
    return client;
  }

  /** The client does the next thing, until it waits for others or there is nothing but heartbeats. */
  says(title: string, name: string): void {
    this.step(title, () => {
      const client = this.#client(name);
      do client.act();
      while (client.state === 'join' || client.state === 'sync');
    });
  }

  /** Fires a timer of the group, which must be set. */
  passes(title: string, key: string): void {
    this.step(title, () => {
      assert(this.group.timers.delete(key), `timer ${key} is not set`);
      this.group.decide({ type: 'timer', key });
    });
  }

  /** The client ends, as it should. */
  leaves(title: string, name: string): void {
    const { memberId, options } = this.#client(name);
    this.dies(name);
    this.step(title, () => {
      if (options.kind === 'consumer') this.group.decide(kafkaHeartbeat(memberId, { memberEpoch: -1 }));
      else this.group.decide({ type: 'classic-leave', members: [{ memberId, instanceId: options.instanceId }] });
    });
  }

  /** The client is gone without a word. */
  dies(name: string): void {
    this.#clients.delete(name);
    this.#working.delete(name);
  }

  step(title: string, act: () => void): void {
    const { group, lines } = this;
    const [records, answers] = [group.records.length, group.answers.length];
    lines.push(`# ${title}`);
    act();
    for (const answer of group.answers.slice(answers)) this.#deliver(answer);
    lines.push(...group.records.slice(records).map((record) => this.#line(record)));
    for (const [name, client] of this.#clients) this.#tellWork(name, client);
    lines.push(`= ${group.state === undefined ? 'gone' : groupStateName(group.state, group.round)}`);
  }

  #deliver({ key, reply }: ParkedAnswer): void {
    const [what = '', memberId = ''] = key.split('/');
    const client = [...this.#clients.values()].find(
      (one) => one.memberId === memberId || one.options.newId() === memberId,
    );
    if (what === 'join') client?.joined(reply as ClassicJoinReply);
    else client?.synced(reply as ClassicSyncReply);
  }

  #tellWork(name: string, { working }: KafkaClient): void {
    const now = this.group.names([...working].sort(comparePartitions)).join(' ') || 'nothing';
    if (now !== (this.#working.get(name) ?? 'nothing')) this.lines.push(`${name} works on ${now}`);
    this.#working.set(name, now);
  }

  /** Of a group whose members assign: who leads, and what the generation is. */
  #line(record: GroupRecord): string {
    if (record.kind !== 'group' || record.value === null || record.value.classic === null)
      return this.group.line(record);
    const { groupEpoch, assignmentEpoch, classic } = record.value;
    const { leaderId, protocolName } = classic;
    const led = leaderId === null ? 'nobody leads' : `${leaderId} leads by ${protocolName}`;
    return `generation ${groupEpoch}, assigned ${assignmentEpoch}, ${led}`;
  }

  #client(name: string): KafkaClient {
    const client = this.#clients.get(name);
    assert(client !== undefined, `there is no client ${name}`);
    return client;
  }
}
