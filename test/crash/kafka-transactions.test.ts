/**
 * As transactions-sigkill.test.ts, with Kafka's clients: transactional producers of kafkajs and librdkafka, and a pipeline of kafkajs
 * that commits its offsets in its transactions. Between them and the broker is a proxy that cuts and holds connections back, and
 * requests of the past are sent again. A client that gives up is started anew with its transactional id.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { HistoryChecker, PipelineChecker, SeededRandom, TcpProxy } from '@naru/testkit';
import { librdkafkaMissing } from '../interop/librdkafka.ts';
import { peerIsMissing } from '../interop/peer.ts';
import { KafkaFrames } from './torture/kafka-frames.ts';
import { SHARED, TAIL } from './torture/readers.ts';
import type { Slot } from './torture/torture.ts';
import { Torture } from './torture/torture.ts';
import { closeAtEnd, judge, sized, torment } from './torture/torture-run.ts';
import { LANES } from './torture/values.ts';

const TRANSACTIONS = sized(30_000);
const ACTS = Math.max(10, sized(200));
const KAFKAJS: readonly Slot[] = [
  { role: 'kafkajs-writer', name: 'kafkajs-1', lanes: 4 },
  { role: 'kafkajs-pipeline', name: 'kafkajs-pipeline', lanes: 0 },
];
const LIBRDKAFKA: Slot = { role: 'librdkafka-writer', name: 'librdkafka-1', lanes: 4 };
const WRITERS = ['kafkajs-writer', 'librdkafka-writer'] as const;

test(`${TRANSACTIONS} transactions of Kafka’s clients are whole through ${ACTS} kills and broken connections`, async () => {
  const slots = peerIsMissing('librdkafka', librdkafkaMissing) ? KAFKAJS : [...KAFKAJS, LIBRDKAFKA];
  const seed = Number(process.env['NARU_TEST_SEED'] ?? Date.now() % 1_000_000);
  const random = new SeededRandom(seed);
  const directory = await mkdtemp(join(tmpdir(), 'naru-torture-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const frames = new KafkaFrames(random.fork());
  const brokerPort = (): number => Number(torture.broker.address.split(':')[1]);
  const target = {
    host: '127.0.0.1',
    get port() {
      return brokerPort();
    },
  };
  const proxy = new TcpProxy(target, {
    onBytes: (direction, bytes, connection) => {
      if (direction === 'requests') frames.sent(connection, bytes);
      return true;
    },
    onClosed: (connection) => frames.closed(connection),
  });
  const port = await proxy.listen();
  onTestFinished(() => proxy.close());
  const history = new HistoryChecker([TAIL, SHARED]);
  const pipeline = new PipelineChecker(LANES);
  const torture = new Torture({
    directory,
    history,
    pipeline,
    random: random.fork(),
    slots,
    maxValues: 50,
    transactionTimeoutMs: 10_000,
    settings: `  advertised: { host: 127.0.0.1, port: ${port} }\n`,
    addressFor: () => `127.0.0.1:${port}`,
  });
  closeAtEnd(torture, history, pipeline);
  await torture.start();
  await torture.populate();

  const plan = {
    killBroker: { share: 2, act: () => torture.killBroker() },
    killWriter: { share: 2, act: () => torture.killClient(WRITERS) },
    killPipeline: { share: 1, act: () => torture.killClient(['kafkajs-pipeline']) },
    replay: { share: 3, act: () => frames.replay(brokerPort(), 20) },
    changeMembers: { share: 1, act: () => torture.changeMembers() },
    cut: {
      share: 1,
      act: async () => {
        // What is under way when connections break arrives, or does not, or only its answer does not.
        proxy.stall();
        await frames.replay(brokerPort(), 1);
        proxy.heal();
        proxy.cut();
      },
    },
  };
  await torment(torture, random, plan, { transactions: TRANSACTIONS, times: ACTS });
  await torture.finish();

  const report = judge('kafka', seed, torture, history, pipeline);
  expect(report.history.violations).toEqual([]);
  expect(report.pipeline.violations).toEqual([]);
  expect(torture.recounted).toBe(report.history.read);
  expect(report.history.transactions.committed).toBeGreaterThan(TRANSACTIONS / 2);
  expect(frames.done.replayedRequests).toBeGreaterThan(0);
  await torture.broker.stop();
});
