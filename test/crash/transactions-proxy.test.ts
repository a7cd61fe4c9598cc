/**
 * As transactions-sigkill.test.ts, with a proxy between the SDK's clients and the broker: it loses and delays the answers to ends of
 * transactions, cuts connections, and sends ends and batches of the past again, which must touch no later transaction.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { HistoryChecker, PipelineChecker, SeededRandom } from '@naru/testkit';
import { GrpcProxy } from './torture/grpc-proxy.ts';
import { SHARED, TAIL } from './torture/readers.ts';
import type { Slot } from './torture/torture.ts';
import { Torture } from './torture/torture.ts';
import { closeAtEnd, judge, sized, torment } from './torture/torture-run.ts';
import { LANES } from './torture/values.ts';

const TRANSACTIONS = sized(50_000);
const ACTS = Math.max(20, sized(500));
const SLOTS: readonly Slot[] = [
  { role: 'sdk-writer', name: 'writer-1', lanes: 8 },
  { role: 'sdk-pipeline', name: 'pipeline-1', lanes: 0 },
  { role: 'sdk-pipeline', name: 'pipeline-2', lanes: 0 },
];

test(`${TRANSACTIONS} transactions are whole through lost, late and repeated messages`, async () => {
  const seed = Number(process.env['NARU_TEST_SEED'] ?? Date.now() % 1_000_000);
  const random = new SeededRandom(seed);
  const directory = await mkdtemp(join(tmpdir(), 'naru-torture-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const port = (): number => Number(torture.broker.address.split(':')[1]);
  const proxy = new GrpcProxy({ port, random: random.fork(), faultShare: 50 });
  await proxy.listen();
  onTestFinished(() => proxy.close());
  const history = new HistoryChecker([TAIL, SHARED]);
  const pipeline = new PipelineChecker(LANES);
  const torture = new Torture({
    directory,
    history,
    pipeline,
    random: random.fork(),
    slots: SLOTS,
    maxValues: 50,
    transactionTimeoutMs: 10_000,
    addressFor: () => proxy.address,
  });
  closeAtEnd(torture, history, pipeline);
  await torture.start();
  await torture.populate();

  const plan = {
    replay: { share: 4, act: () => proxy.replay(20, 2) },
    cut: { share: 2, act: () => Promise.resolve(proxy.cut()) },
    killBroker: { share: 1, act: () => torture.killBroker() },
    killClient: { share: 1, act: () => torture.killClient(['sdk-writer', 'sdk-pipeline']) },
    freezeClient: { share: 1, act: () => torture.freezeClient(['sdk-writer', 'sdk-pipeline']) },
    changeMembers: { share: 1, act: () => torture.changeMembers() },
  };
  await torment(torture, random, plan, { transactions: TRANSACTIONS, times: ACTS });
  await torture.finish();

  const report = judge('proxy', seed, torture, history, pipeline);
  // oxlint-disable-next-line no-console -- what was lost is chance: the run says what it was
  console.log(JSON.stringify(proxy.done));
  expect(report.history.violations).toEqual([]);
  expect(report.pipeline.violations).toEqual([]);
  expect(torture.recounted).toBe(report.history.read);
  expect(report.history.transactions.committed).toBeGreaterThan(TRANSACTIONS / 2);
  expect(proxy.done.replayedEnds).toBeGreaterThan(0);
  expect(proxy.done.lostAnswers).toBeGreaterThan(0);
  await torture.broker.stop();
});
