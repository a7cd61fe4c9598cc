/** A client and a broker that a test plays, for the tests of transactions. */
import { silentLogger } from '@naru/base';
import { Naru } from '../naru.ts';
import type { SettingsInput } from '../settings.ts';
import { settingsSchema } from '../settings.ts';
import { FakeTransactionBroker } from './fake-transaction-broker.ts';
import { VirtualTime, seededRandom } from './virtual-time.ts';

/** Topics `orders`, of two partitions, and `bills`. The transactional id is `shop`. */
export function setUp(publisher: SettingsInput['publisher'] = {}) {
  const time = new VirtualTime();
  const broker = new FakeTransactionBroker(time);
  broker.createTopic('orders', 2);
  broker.createTopic('bills', 1);
  const settings = settingsSchema.parse({ publisher: { transaction: { id: 'shop' }, ...publisher } });
  const runtime = { clock: time, timers: time, random: seededRandom(1), logger: silentLogger };
  return { time, broker, naru: new Naru(settings, broker, runtime) };
}

export type World = ReturnType<typeof setUp>;

/** What a promise comes to, with time going on until it has. */
export async function over<T>({ time }: World, promise: Promise<T>): Promise<{ value?: T; error?: Error }> {
  const result: { value?: T; error?: Error; isOver?: boolean } = {};
  promise.then(
    (value) => Object.assign(result, { value, isOver: true }),
    (error: unknown) => Object.assign(result, { error, isOver: true }),
  );
  await time.until(() => result.isOver === true);
  return result;
}
