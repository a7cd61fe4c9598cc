/**
 * What may stand in events.yaml: shapes, bounds and what each field means. What several fields, events or files have to do with each
 * other is catalog-checks.ts's.
 */
import { checkGroupId, checkTopicName } from '@naru/protocol';
import { byteSizeOrUnlimited, count, duration, durationOrUnlimited } from '@naru/protocol/settings-node';
import { z } from 'zod';
import { parsePointer } from './json-pointer.ts';

/** Events of a catalog, all files together. */
export const MAX_EVENTS = 1_000;
/** Groups that a topic may declare; the broker's limit. */
export const MAX_TOPIC_GROUPS = 100;
const MAX_ORDER = 100;
const MAX_REFERENCES = 100;
const MAX_NAME_LENGTH = 249;

export const FORMATS = ['json', 'avro', 'protobuf', 'string', 'bytes'] as const;
export const CLEANUPS = ['delete', 'compact', 'acknowledged'] as const;

const EVENT_NAME = /^[A-Za-z0-9][A-Za-z0-9._/:-]*$/;

const refused = <T extends z.ZodType<string>>(schema: T, check: (text: string) => { message: string } | null) =>
  schema.superRefine((text, context) => {
    const refusal = check(text);
    if (refusal !== null) context.addIssue({ code: 'custom', message: refusal.message });
  });

const retry = z.strictObject({
  /** Times a handler is called for an event before it becomes a dead letter. */
  attempts: z
    .union([count(1, 1_000_000), z.literal('unlimited')], 'expected a whole number from 1, or unlimited')
    .optional(),
  /** Waits between them; what is not said here, the settings say. */
  backoff: z
    .strictObject({
      initial: duration(1).optional(),
      factor: z.number().min(1).max(100).optional(),
      max: duration(1).optional(),
      jitter: z.number().min(0).max(1).optional(),
    })
    .optional(),
});

const deadLetter = z.strictObject({
  /** What a dead letter does to later events of its key: they go on, or wait until it is redriven or purged. */
  afterDeadLetter: z.enum(['continue', 'park']).optional(),
});

const group = z
  .strictObject({
    /** The group gets an event after every group of a lower order has finished it. Default 1. */
    order: count(1, MAX_ORDER).optional(),
    guarantee: z.enum(['at-most-once', 'at-least-once', 'exactly-once']).optional(),
    /** How long the broker may hold a poll open when there is nothing. */
    poll: duration().optional(),
    /** Events handled at a time by one member. */
    concurrency: count(1, 10_000).optional(),
    /** Events of the group's topics that have no handler: left out, or dead letters. */
    unhandled: z.enum(['skip', 'fail']).optional(),
    /** In place of the event's. */
    retry: retry.optional(),
    /** In place of the event's. */
    deadLetter: deadLetter.optional(),
    /** What a dead letter of a group of lower order does to the event here: it waits, or it is given all the same. */
    onDeadLetter: z.enum(['withhold', 'release']).optional(),
  })
  .nullable()
  .transform((given) => given ?? {});

const event = z.strictObject({
  /** For people, and for what is generated. */
  description: z.string().max(10_000).optional(),
  /** Default: the event's own name. */
  topic: refused(z.string(), checkTopicName).optional(),
  /** Of the topic: `ordered` by key, or `parallel`, given singly to any member. Default ordered. */
  type: z.enum(['ordered', 'parallel']).optional(),
  /** JSON pointer into the payload: what is kept in order. */
  key: refused(z.string(), (text) => {
    const parsed = parsePointer(text);
    return 'wrong' in parsed ? { message: parsed.wrong } : null;
  }).optional(),
  /** Default json. */
  format: z.enum(FORMATS).default('json'),
  /** File of the schema, relative to the file that says so. `#/…` behind it: a part of a JSON Schema. */
  schema: z.string().min(1).optional(),
  /** protobuf: full name of the message; default the first of the file. */
  message: z.string().min(1).optional(),
  /** Files that the schema refers to, by the name that it has for them; what is referred to comes first. */
  references: z
    .record(z.string().min(1), z.string().min(1))
    .refine((files) => Object.keys(files).length <= MAX_REFERENCES, `expected at most ${MAX_REFERENCES} files`)
    .default({}),
  /** Whether payloads name their schema by its id in the schema registry (Confluent's wire format). */
  registry: z.boolean().default(false),
  /** Subject in the registry. Default: the event's name and `-value`. */
  subject: z.string().min(1).max(1_000).optional(),
  /** Of the topic. Default: the broker's. */
  partitions: count(1, 10_000).optional(),
  /** Of the topic. */
  retention: z
    .strictObject({
      time: durationOrUnlimited(1).optional(),
      /** Of each partition. */
      size: byteSizeOrUnlimited().optional(),
      /** What happens to old events. Default delete. */
      policy: z
        .union(
          [z.enum(CLEANUPS), z.array(z.enum(CLEANUPS)).min(1)],
          `expected ${CLEANUPS.join(', ')}, or a list of them`,
        )
        .optional(),
    })
    .optional(),
  /** Other settings of the topic, as `naru topic config` has them. */
  settings: z.record(z.string().min(1), z.union([z.string(), z.number(), z.boolean()])).optional(),
  retry: retry.optional(),
  deadLetter: deadLetter.optional(),
  /** Consumer groups that are to handle the event. */
  groups: z
    .record(refused(z.string(), checkGroupId), group)
    .refine((groups) => Object.keys(groups).length <= MAX_TOPIC_GROUPS, `expected at most ${MAX_TOPIC_GROUPS} groups`)
    .default({}),
});

const eventName = refused(z.string(), (text) => {
  if (text.length <= MAX_NAME_LENGTH && EVENT_NAME.test(text)) return null;
  return {
    message: `an event's name has up to ${MAX_NAME_LENGTH} of a-z, A-Z, 0-9, ".", "_", "-", "/" and ":", got ${JSON.stringify(text)}`,
  };
});

/** Of all files together, with the environment laid over. */
export const catalogSchema = z.strictObject({
  events: z
    .record(eventName, event)
    .refine((events) => Object.keys(events).length <= MAX_EVENTS, `expected at most ${MAX_EVENTS} events`)
    .default({}),
});

export type CatalogFileEvent = z.output<typeof event>;
export type CatalogFileGroup = z.output<typeof group>;
export type CatalogFileRetry = z.output<typeof retry>;

/** What one file may have, for editors. */
export const catalogFileSchema = z.strictObject({
  events: catalogSchema.shape.events,
  /** Other files of the catalog, relative to this one. */
  include: z.array(z.string().min(1)).max(1_000).optional(),
  /** What is different in an environment, by its name: laid over the events. */
  environments: z.record(z.string().min(1), z.strictObject({ events: z.record(z.string(), z.unknown()) })).optional(),
});
