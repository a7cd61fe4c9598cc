/** The schema registry as a use case: questions and changes, answered when what they show is durable. */
import type { Refusal } from '@naru/protocol';
import type { SchemaCommandOf, SchemaCommandType } from '../core/schema-registry/index.ts';
import type { ShardClient } from '../runtime/commands.ts';
import type { SchemasReply } from '../runtime/schema-registry.ts';

export class SchemaService {
  readonly #shard: ShardClient;

  constructor(shard: ShardClient) {
    this.#shard = shard;
  }

  /** @throws NaruError when the broker serves no more, or for the moment */
  async ask<T extends SchemaCommandType>(command: SchemaCommandOf<T>): Promise<SchemasReply<T> | Refusal> {
    return (await this.#shard.submit({ type: 'schemas', command })) as SchemasReply<T> | Refusal;
  }
}
