import { expect, test } from 'vitest';
import { GroupScenario, join } from './group-scenario.ts';
import { groupStateName } from './inspect.ts';

/** What a step of the story is, what it recorded (`partition@epoch of the grant`), and what the group is then. */
const STORY = `
# A joins
group epoch 1
A epoch 1 since 1, holds t/0@1 t/1@1 t/2@1 t/3@1 t/4@1 t/5@1, target t/0 t/1 t/2 t/3 t/4 t/5
= stable
# B joins
group epoch 2
A epoch 1 since 1, holds t/0@1 t/1@1 t/2@1, gives up t/3@1 t/4@1 t/5@1, target t/0 t/1 t/2
B epoch 2 since 2, holds nothing, target t/3 t/4 t/5
= reconciling
# A releases
A epoch 2 since 1, holds t/0@1 t/1@1 t/2@1, target t/0 t/1 t/2
B epoch 2 since 2, holds t/3@2 t/4@2 t/5@2, target t/3 t/4 t/5
= stable
# C joins
group epoch 3
A epoch 2 since 1, holds t/0@1 t/1@1, gives up t/2@1, target t/0 t/1
B epoch 2 since 2, holds t/3@2 t/4@2, gives up t/5@2, target t/3 t/4
C epoch 3 since 3, holds nothing, target t/2 t/5
= reconciling
# A releases
A epoch 3 since 1, holds t/0@1 t/1@1, target t/0 t/1
C epoch 3 since 3, holds t/2@3, target t/2 t/5
= reconciling
# B releases
B epoch 3 since 2, holds t/3@2 t/4@2, target t/3 t/4
C epoch 3 since 3, holds t/2@3 t/5@3, target t/2 t/5
= stable
# B crashes
group epoch 4
B removed
A epoch 4 since 1, holds t/0@1 t/1@1 t/3@4, target t/0 t/1 t/3
C epoch 4 since 3, holds t/2@3 t/4@4 t/5@3, target t/2 t/4 t/5
= stable
# two partitions are added
group epoch 5
A epoch 5 since 1, holds t/0@1 t/1@1 t/3@4 t/6@5, target t/0 t/1 t/3 t/6
C epoch 5 since 3, holds t/2@3 t/4@4 t/5@3 t/7@5, target t/2 t/4 t/5 t/7
= stable
# A leaves
group epoch 6
A removed
C epoch 6 since 3, holds t/0@6 t/1@6 t/2@3 t/3@6 t/4@4 t/5@3 t/6@6 t/7@5, target t/0 t/1 t/2 t/3 t/4 t/5 t/6 t/7
= stable
# C leaves
group epoch 7
C removed
= empty
`;

test('the life of a group, as its log tells it', () => {
  const group = new GroupScenario({ t: 6 });
  const told: string[] = [];
  const step = (title: string, command: Parameters<GroupScenario['lines']>[0]): void => {
    told.push(`# ${title}`, ...group.lines(command));
    told.push(`= ${group.state === undefined ? 'gone' : groupStateName(group.state)}`);
  };
  const releases = (memberId: string): void => {
    const owned = [...group.state!.members.get(memberId)!.assigned.keys()];
    const memberEpoch = group.epoch(memberId);
    step(`${memberId} releases`, { type: 'heartbeat', memberId, memberEpoch, owned });
  };
  step('A joins', join('A', { topics: ['t'] }));
  step('B joins', join('B', { topics: ['t'] }));
  releases('A');
  step('C joins', join('C', { topics: ['t'] }));
  releases('A');
  releases('B');
  step('B crashes', { type: 'timer', key: 'session/B' });
  group.setTopic('t', 8);
  step('two partitions are added', { type: 'topics-changed' });
  step('A leaves', { type: 'leave', memberId: 'A', memberEpoch: -1 });
  step('C leaves', { type: 'leave', memberId: 'C', memberEpoch: -1 });
  expect(told).toEqual(STORY.trim().split('\n'));
});
