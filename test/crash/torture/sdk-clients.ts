/** Clients of a torture test that use the SDK: it must bear whatever happens to broker and network. */
import { connect, serdes } from '@naru/client';
import type { EventBatch, Naru, NaruEvent } from '@naru/client';
import { NaruError, isNaruError } from '@naru/protocol';
import type { ClientRun } from './client-task.ts';
import { Lane, tell } from './client-log.ts';
import { INPUT, OUTPUT, TOPICS, keyOf, payloadOf, topicIndexOf, valueIn } from './values.ts';

/** Events of a burst outside of transactions. */
const MAX_BURST = 30;
/** One event of so many fails once in the pipeline, after it has published. */
const FAILING_SHARE = 300;
const PIPELINE_CONCURRENCY = 16;
const PIPELINE_GROUP = 'pipeline';

class PlannedFailure extends Error {}

async function connected({ task }: ClientRun): Promise<Naru> {
  return connect({
    brokers: [task.address],
    clientId: task.name,
    reconnect: { initial: '20ms', max: '200ms' },
    // Far beyond what a restart takes.
    connectTimeoutMs: '60s',
    publisher: {
      deliveryTimeoutMs: '60s',
      transaction: { id: task.name, timeoutMs: task.transactionTimeoutMs, maxConcurrent: Math.max(1, task.lanes) },
    },
    // A member that is killed together with the broker is missed for so long.
    subscriber: { sessionTimeoutMs: '6s', retry: { backoff: { initial: '10ms', max: '100ms' } } },
  });
}

/** Lanes with transactions, and one lane more that publishes without. */
export async function runSdkWriter(run: ClientRun): Promise<void> {
  const naru = await connected(run);
  tell(['ready']);
  const { firstWriter, lanes } = run.task;
  const writing = Array.from({ length: lanes }, (_, index) => {
    return writeTransactions(run, naru, new Lane(index, firstWriter + index));
  });
  writing.push(publishBursts(run, naru, new Lane(lanes, firstWriter + lanes)));
  await Promise.all(writing);
  await naru.close();
}

async function writeTransactions(run: ClientRun, naru: Naru, lane: Lane): Promise<void> {
  while (!run.isStopped) {
    const size = run.size();
    const isAborted = run.wantsAbort();
    const waitsForAll = run.random.integer(2) === 0;
    let attempts = 0;
    try {
      await naru.transaction(async (tx) => {
        // Run again only when the transaction before was aborted for certain.
        if (attempts > 0) lane.ended('aborted');
        attempts += 1;
        const publishes = lane.begin(size).map(async (counter) => {
          const topic = topicIndexOf(counter);
          const value = lane.value(counter);
          const options = { key: keyOf(value), serde: serdes.bytes };
          const { partition, offset } = await tx.publish(TOPICS[topic], payloadOf(value), options);
          lane.placed(counter, topic, partition, Number(offset));
        });
        const all = Promise.allSettled(publishes);
        if (waitsForAll || isAborted) await all;
        if (isAborted) throw new PlannedFailure();
        lane.committing();
      });
      lane.ended('committed');
    } catch (error) {
      transactionFailed(lane, error);
    }
  }
}

function transactionFailed(lane: Lane, error: unknown): void {
  const isAborted = !lane.isCommitting || isNaruError(error, 'TRANSACTION_ABORTABLE');
  lane.ended(isAborted ? 'aborted' : 'left');
  if (error instanceof PlannedFailure || isNaruError(error, 'TRANSACTION_ABORTABLE', 'DELIVERY_TIMEOUT')) return;
  tell(['failure', `transaction: ${String(error)}`]);
}

async function publishBursts(run: ClientRun, naru: Naru, lane: Lane): Promise<void> {
  while (!run.isStopped) {
    const publishes = lane.send(1 + run.random.integer(MAX_BURST)).map(async (counter) => {
      const topic = topicIndexOf(counter);
      const value = lane.value(counter);
      const options = { key: keyOf(value), serde: serdes.bytes };
      const { partition, offset } = await naru.publish(TOPICS[topic], payloadOf(value), options);
      lane.placed(counter, topic, partition, Number(offset));
    });
    for (const result of await Promise.allSettled(publishes)) {
      if (result.status === 'rejected') tell(['failure', `publish: ${String(result.reason)}`]);
    }
    lane.tellPlaces();
  }
}

/** Every event of the input becomes one of the output, exactly once. */
export async function runSdkPipeline(run: ClientRun): Promise<void> {
  const naru = await connected(run);
  const subscriber = naru.subscriber(PIPELINE_GROUP, {
    serde: serdes.bytes,
    guarantee: 'exactly-once',
    autoCommitIntervalMs: 50,
  });
  const failed = new Set<string>();
  subscriber.handle<Uint8Array>(INPUT, async (event: NaruEvent<Uint8Array>, ctx) => {
    const value = valueIn(event.value);
    await ctx.publish(OUTPUT, event.value, { key: keyOf(value), serde: serdes.bytes });
    const place = `${event.partition}/${event.offset}`;
    // What it has published before counts for nothing.
    if (run.random.integer(FAILING_SHARE) === 0 && !failed.has(place)) {
      failed.add(place);
      throw new NaruError('ABORTED', 'planned');
    }
    failed.delete(place);
  });
  tell(['ready']);
  await subscriber.run({ concurrency: PIPELINE_CONCURRENCY, signal: run.stop });
  await naru.close();
}

/** The same in pull form: a transaction for each batch, with its commit. */
export async function runSdkPollPipeline(run: ClientRun): Promise<void> {
  const naru = await connected(run);
  tell(['ready']);
  while (!run.isStopped) {
    // After a transaction that was not committed the batch comes again: to a reader that begins where the group is.
    await using poller = naru.poll<Uint8Array>({
      group: PIPELINE_GROUP,
      topics: [INPUT],
      serde: serdes.bytes,
      signal: run.stop,
    });
    for await (const batch of poller) {
      const isPassedOn = await passedOn(naru, batch);
      if (!isPassedOn) break;
    }
  }
  await naru.close();
}

async function passedOn(naru: Naru, batch: EventBatch<Uint8Array>): Promise<boolean> {
  try {
    await naru.transaction((tx) => {
      for (const { value } of batch) {
        void tx.publish(OUTPUT, value, { key: keyOf(valueIn(value)), serde: serdes.bytes });
      }
      tx.commit(batch);
    });
    return true;
  } catch (error) {
    if (!isNaruError(error)) throw error;
    tell(['note', `${error.code}: ${error.message}`]);
    return false;
  }
}
