/** What stands in the way of a declaration, and what is told of one that is in force. */
import { VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { ClassicJoinCommand } from '../core/group/index.ts';
import { MemoryLogStore } from '../log/memory/memory-log-store.ts';
import { finished, turns } from '../runtime/settling.ts';
import { checkDeclaredGroups } from './declared-groups.ts';
import { describeGates } from './group-gates.ts';
import { failedOutcome, StagedScenario } from './staged-scenario.ts';

let clock: VirtualClock;
let scenario: StagedScenario;

beforeEach(async () => {
  clock = new VirtualClock();
  const options = { store: new MemoryLogStore(), time: clock, groups: 'a,b:order=2' };
  scenario = await finished(StagedScenario.start(options), clock);
});

afterEach(() => finished(scenario.stop(), clock));

function check(groups: string, type: 'ordered' | 'parallel' = 'ordered', before = '') {
  return checkDeclaredGroups(scenario.shard.client, { groups: before }, { type, config: { groups } });
}

/** A member that speaks Kafka's classic protocol. */
async function joinClassic(groupId: string, memberId = ''): Promise<unknown> {
  const join: ClassicJoinCommand = {
    type: 'classic-join',
    groupId,
    memberId,
    newMemberId: 'k',
    requiresMemberId: false,
    canSkipAssignment: false,
    instanceId: null,
    protocolType: 'consumer',
    protocols: [{ name: 'range', metadata: new Uint8Array() }],
    subscription: null,
    sessionTimeoutMs: 10_000,
    rebalanceTimeoutMs: 10_000,
    clientId: '',
    clientHost: '',
  };
  const reply = scenario.shard.submit({ type: 'group', command: join });
  for (let round = 0; round < 10; round++) {
    await turns(5);
    clock.advance(100);
  }
  return reply;
}

it('refuses to stage or park a group while it has members that speak Kafka’s protocol, and takes it when they are gone', async () => {
  await joinClassic('x');
  expect(await check('x:order=2,a')).toMatchObject({
    code: 'INVALID_CONFIG',
    message: expect.stringContaining('order 2'),
  });
  expect(await check('x:after-dead-letter=park')).toMatchObject({ code: 'INVALID_CONFIG' });
  expect(await check('x,a')).toBeNull();
  // What holds already does not stand in the way of other changes.
  expect(await check('x:order=3,a', 'ordered', 'x:order=2,a')).toBeNull();
  clock.advance(60_000);
  await turns(20);
  expect(await check('x:order=2,a')).toBeNull();
});

it('refuses Kafka members for groups that are staged', async () => {
  expect(await joinClassic('b')).toMatchObject({ code: 'INCONSISTENT_GROUP_PROTOCOL' });
  expect(await joinClassic('a')).not.toHaveProperty('code');
  await scenario.configure('a:order=2,b');
  const heartbeat = {
    type: 'classic-heartbeat',
    groupId: 'a',
    memberId: 'k',
    instanceId: null,
    generation: 1,
  } as const;
  // Sent back to join, where it is told why.
  expect(await scenario.shard.submit({ type: 'group', command: heartbeat })).toMatchObject({
    code: 'REBALANCE_IN_PROGRESS',
  });
  expect(await joinClassic('a', 'k')).toMatchObject({ code: 'INCONSISTENT_GROUP_PROTOCOL' });
});

it('refuses stages on a parallel topic', async () => {
  expect(await check('a,b:order=2', 'parallel')).toMatchObject({ code: 'INVALID_CONFIG' });
  expect(await check('a,b', 'parallel')).toBeNull();
});

it('describes the oldest event that is withheld, with its dead letter, and the oldest that is behind its key', async () => {
  await scenario.publish(['k', 'x', 'k', 'y']);
  await scenario.commitFor('a', 4, [], [failedOutcome(0, 'k', 'dead-lettered')]);
  const b = await finished(scenario.join('b', 'b-1'), clock);
  await turns(20);
  const holders = new Map([[scenario.partition(), 'b-1']]);
  const gates = await describeGates(scenario.shard.client, 'b', holders, (_group, _member, partition) =>
    b.session.withheldOf(partition),
  );
  const report = 'code' in gates ? null : gates.get(scenario.partition());
  expect(report).toMatchObject({
    waitsFor: ['a'],
    gateOffset: 4,
    withheld: 1,
    passedOver: 2,
    behindKey: 1,
    stalled: false,
  });
  expect(report?.oldest).toEqual([
    { offset: 0, reason: 'dead-letter', groupId: 'a', deadLetterId: expect.stringMatching(/^[0-9a-z]{30,}$/) },
    { offset: 2, reason: 'behind-key', groupId: null, deadLetterId: null },
  ]);
});
