/**
 * Produce 3–12: stores one record batch v2 for each partition named, undecoded.
 *
 * From version 12 on a transactional batch makes its partition a part of the transaction (KIP-890); before, AddPartitionsToTxn does.
 *
 * Differences from Kafka: acks=1 is as durable as acks=all, and acks=0 waits for nothing but closes the connection on an error
 * as Kafka does. Batches stay in their request's memory.
 */
import type { Timers } from '@naru/base';
import { NaruError, refuse, type Refusal } from '@naru/protocol';
import { BATCH_HEADER_BYTES, firstBatchSize } from '@naru/protocol/batch';
import { KAFKA_ERRORS, type KafkaRequest, type KafkaResponse } from '@naru/protocol/kafka';
import { isRefusal, type AppendCommand, type AppendReply, type ShardClient } from '../../../runtime/commands.ts';
import type { TopicService } from '../../../service/topics.ts';
import { ConnectionRefusal, type KafkaCall, type KafkaHandlers } from '../kafka-handler.ts';
import { findPartition } from './partition-errors.ts';
import { transactionErrorName } from './transaction-errors.ts';

/** Kafka's code for zstd in versions whose clients do not know it. */
const ZSTD = 4;
const ZSTD_SINCE = 7;
const ATTRIBUTES_AT = 22;
const COMPRESSION_MASK = 0x07;
const TRANSACTIONAL_BIT = 0x10;
const SECOND_FLOW_SINCE = 12;

export interface ProduceOptions {
  readonly topics: TopicService;
  readonly shard: ShardClient;
  readonly timers: Timers;
}

type Request = KafkaRequest<'produce'>;
type Answer = KafkaResponse<'produce'>;
type PartitionAnswer = Answer['responses'][number]['partitionResponses'][number];
/** Producers ask for the log start when they are not known (KIP-360): without one the Java client repeats for ever. */
interface RefusedOutcome extends Refusal {
  readonly logStartOffset?: number | undefined;
}
type Outcome = AppendReply | RefusedOutcome;

export function produceHandlers(options: ProduceOptions): Pick<KafkaHandlers, 'produce'> {
  return {
    produce: {
      async handle(request, call) {
        if (!isAcks(request.acks)) return answer(request, badAcks);
        const outcomes = await inTime(append(request, call, options), request.timeoutMs, options.timers);
        if (request.acks === 0) return unacknowledged(outcomes);
        let next = 0;
        return answer(request, (index) => partitionAnswer(index, outcomes[next++] as Outcome, call.version));
      },
      failed(request, error, { version }) {
        if (request.acks === 0) throw new ConnectionRefusal(`a request with acks=0 failed: ${error.message}`);
        return answer(request, (index) => partitionAnswer(index, error.toRefusal(), version));
      },
    },
  };
}

/** Outcomes in the order of the request's partitions. All appends are asked for before this returns. */
function append(request: Request, call: KafkaCall, { topics, shard }: ProduceOptions): Promise<Outcome[]> {
  const outcomes: Promise<Outcome>[] = [];
  const refused = (reason: Refusal): void => void outcomes.push(Promise.resolve(reason));
  const flow = call.version >= SECOND_FLOW_SINCE ? 2 : 1;
  for (const { name, partitionData } of request.topicData) {
    for (const { index, records } of partitionData) {
      const partition = findPartition(topics, name, index);
      if (typeof partition === 'number') {
        refused(refuse('UNKNOWN_TOPIC_OR_PARTITION', `there is no partition ${index} of topic ${name}`));
      } else {
        const checked = checkRecords(records, request.transactionalId, call.version);
        if (isRefusal(checked)) refused(checked);
        else outcomes.push(appended(shard, { type: 'append', partition, batch: checked, flow }));
      }
    }
  }
  return Promise.all(outcomes);
}

/** The append is asked for before this returns. */
async function appended(shard: ShardClient, command: AppendCommand): Promise<Outcome> {
  const { partition } = command;
  const reply = await shard.submit(command).catch(operational);
  if (!isRefusal(reply) || reply.code !== 'UNKNOWN_PRODUCER_ID') return reply;
  const found = await shard.submit({ type: 'describe-partitions', partitions: [partition] }).catch(operational);
  return { ...reply, logStartOffset: isRefusal(found) ? undefined : found[0]?.logStartOffset };
}

function operational(error: unknown): Refusal {
  if (error instanceof NaruError) return error.toRefusal();
  throw error;
}

function isAcks(acks: number): boolean {
  return acks === 0 || acks === 1 || acks === -1;
}

function badAcks(index: number): PartitionAnswer {
  return {
    index,
    errorCode: KAFKA_ERRORS.INVALID_REQUIRED_ACKS.code,
    baseOffset: -1,
    errorMessage: 'acks is 0, 1 or -1',
  };
}

/** Exactly one batch, of the format that is stored; the shard looks at the rest. */
function checkRecords(
  records: Uint8Array | null,
  transactionalId: string | null,
  version: number,
): Uint8Array | Refusal {
  if (records === null || records.length === 0) return refuse('INVALID_RECORD', 'there is no record batch');
  if (records.length < BATCH_HEADER_BYTES) return refuse('CORRUPT_MESSAGE', 'the record batch is cut off');
  try {
    const size = firstBatchSize(records);
    if (size !== undefined && size < records.length) {
      return refuse('INVALID_RECORD', 'a request holds exactly one record batch for each partition');
    }
  } catch (error) {
    return operational(error);
  }
  const attributes = records[ATTRIBUTES_AT] as number;
  if (transactionalId === null && (attributes & TRANSACTIONAL_BIT) !== 0) {
    return refuse('INVALID_REQUEST', 'a transactional batch comes with its transactional id');
  }
  if (version < ZSTD_SINCE && (attributes & COMPRESSION_MASK) === ZSTD) {
    return refuse('UNSUPPORTED_COMPRESSION_TYPE', `zstd needs version ${ZSTD_SINCE} of Produce, this is ${version}`);
  }
  return records;
}

/** Whether the batches were stored is open when the time is over, as in Kafka. */
function inTime(outcomes: Promise<Outcome[]>, timeoutMs: number, timers: Timers): Promise<Outcome[]> {
  return new Promise((resolve, reject) => {
    const timer = timers.after(timeoutMs, () => {
      reject(new NaruError('REQUEST_TIMED_OUT', `the batches were not durable after ${timeoutMs} ms`));
    });
    outcomes.finally(() => timer.cancel()).then(resolve, reject);
  });
}

function unacknowledged(outcomes: readonly Outcome[]): null {
  const refusal = outcomes.find(isRefusal);
  if (refusal !== undefined) throw new ConnectionRefusal(`a batch with acks=0 was refused: ${refusal.message}`);
  return null;
}

function answer({ topicData }: Request, partition: (index: number) => PartitionAnswer): Answer {
  return {
    responses: topicData.map(({ name, partitionData }) => ({
      name,
      partitionResponses: partitionData.map(({ index }) => partition(index)),
    })),
  };
}

function partitionAnswer(index: number, outcome: Outcome, version: number): PartitionAnswer {
  if (!isRefusal(outcome)) {
    return { index, errorCode: 0, baseOffset: outcome.baseOffset, logStartOffset: outcome.logStartOffset };
  }
  const { code, message, logStartOffset = -1 } = outcome;
  const name = transactionErrorName(code, 'produce', version);
  const errorCode = KAFKA_ERRORS[name].code;
  const errorMessage = `${name}: ${message}`;
  return { index, errorCode, baseOffset: -1, logStartOffset, errorMessage };
}
