/** Order per key, and nothing lost, through everything that goes wrong: order-run.ts says what does. */
import { SeededRandom } from '@naru/testkit';
import { describe, expect, it, vi } from 'vitest';
import { OrderRun, type OrderReport } from './order-run.ts';

const LONG = process.env['NARU_TEST_LONG'] !== undefined;
const SEEDS = Number(process.env['NARU_TEST_SEEDS'] ?? (LONG ? 1_000 : 20));
/** Another range finds more; a failure prints its seed, to be set here. */
const FIRST_SEED = Number(process.env['NARU_TEST_SEED'] ?? 1);
const STEPS = Number(process.env['NARU_TEST_STEPS'] ?? 120);

async function run(seed: number): Promise<OrderReport> {
  // Members name themselves.
  const ids = new SeededRandom(seed ^ 0x5eed);
  vi.spyOn(globalThis.crypto, 'randomUUID').mockImplementation(() => {
    const hex = Buffer.from(ids.bytes(16)).toString('hex');
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20)}`;
  });
  const order = new OrderRun(seed);
  try {
    return await order.run(STEPS);
  } catch (error) {
    const last = order.report.trace.slice(-Number(process.env['NARU_TEST_TRACE'] ?? 30)).join('\n');
    throw new Error(`NARU_TEST_SEED=${seed}: ${String(error)}\n${last}`, { cause: error });
  }
}

describe('events of a key', () => {
  it('succeed in their order, each at least once, whatever fails', async () => {
    const total = { published: 0, givenUp: 0, repeats: 0, redriven: 0, memberCrashes: 0, brokerCrashes: 0 };
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
      const report = await run(seed);
      for (const name of Object.keys(total) as (keyof typeof total)[]) total[name] += report[name];
    }
    // The runs are worth something only if all of this happened; a single seed may be replayed.
    expect(Object.entries(total).filter(([, count]) => count < Math.floor(SEEDS / 2))).toEqual([]);
  });

  it('meet the same fate for the same seed', async () => {
    const [first, second] = [await run(FIRST_SEED), await run(FIRST_SEED)];
    expect(second.trace).toEqual(first.trace);
  });
});
