import { expect, test } from 'vitest';
import { InFlight } from './in-flight.ts';

test('there is room again when one of so many is acknowledged', async () => {
  const inFlight = new InFlight(2);
  const first = Promise.withResolvers<void>();
  const second = Promise.withResolvers<void>();
  inFlight.add(first.promise);
  expect(inFlight.room()).toBeUndefined();
  inFlight.add(second.promise);
  const room = inFlight.room();
  expect(room).toBeInstanceOf(Promise);
  second.resolve();
  await room;
  first.resolve();
  await inFlight.empty();
});

test('what fails is said by the next wait', async () => {
  const inFlight = new InFlight(10);
  inFlight.add(Promise.reject(new Error('refused')));
  await expect(inFlight.empty()).rejects.toThrow('refused');
  await expect(inFlight.room()).rejects.toThrow('refused');
  const other = new InFlight(1);
  other.begin();
  other.end(5);
  await expect(other.empty()).rejects.toThrow('not acknowledged: 5');
});
