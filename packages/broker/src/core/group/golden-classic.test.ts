/** Lives of groups with members of Kafka's classic protocol, and of groups with members of several doors. */
import { expect, test } from 'vitest';
import { join } from './group-scenario.ts';
import { KafkaStory } from './kafka-story.ts';

/** What each step recorded (`partition@epoch of the grant`), what clients work on because of it, and the group's state then. */
const EAGER = `
# A joins
generation 0, assigned 0, nobody leads
A epoch 0 since 1, holds nothing, target nothing
= preparing-rebalance
# nobody else comes
generation 1, assigned 0, A leads by range
A epoch 1 since 1, holds nothing, target nothing
= completing-rebalance
# A assigns
generation 1, assigned 1, A leads by range
A epoch 1 since 1, holds t/0@1 t/1@1 t/2@1, target t/0 t/1 t/2
A works on t/0 t/1 t/2
= stable
# B joins
B epoch 0 since 2, holds nothing, target nothing
= preparing-rebalance
# A hears of it, lets go, joins again and assigns
generation 2, assigned 1, A leads by range
A epoch 2 since 1, holds nothing, target t/0 t/1 t/2
B epoch 2 since 2, holds nothing, target nothing
generation 2, assigned 2, A leads by range
A epoch 2 since 1, holds t/0@2 t/2@2, target t/0 t/2
B epoch 2 since 2, holds t/1@2, target t/1
A works on t/0 t/2
= stable
# B asks what it gets
B works on t/1
= stable
# nothing was heard of B for its session
B removed
= preparing-rebalance
# A hears of it, joins again and assigns
generation 3, assigned 2, A leads by range
A epoch 3 since 1, holds nothing, target t/0 t/2
generation 3, assigned 3, A leads by range
A epoch 3 since 1, holds t/0@3 t/1@3 t/2@3, target t/0 t/1 t/2
A works on t/0 t/1 t/2
= stable
# C joins
C epoch 0 since 4, holds nothing, target nothing
= preparing-rebalance
# A, which does not hear of it, is waited for no longer
generation 4, assigned 3, C leads by range
A removed
C epoch 4 since 4, holds nothing, target nothing
= completing-rebalance
# C assigns
generation 4, assigned 4, C leads by range
C epoch 4 since 4, holds t/0@4 t/1@4 t/2@4, target t/0 t/1 t/2
C works on t/0 t/1 t/2
= stable
# A finds that it is not a member any more, and joins
A epoch 0 since 5, holds nothing, target nothing
A works on nothing
= preparing-rebalance
# C leaves
generation 5, assigned 4, A leads by range
C removed
A epoch 5 since 5, holds nothing, target nothing
= completing-rebalance
# A assigns
generation 5, assigned 5, A leads by range
A epoch 5 since 5, holds t/0@5 t/1@5 t/2@5, target t/0 t/1 t/2
A works on t/0 t/1 t/2
= stable
`;

test('eager members, whose leader assigns', () => {
  const story = new KafkaStory({ t: 3 });
  story.client('A', 'eager');
  story.says('A joins', 'A');
  story.passes('nobody else comes', 'barrier/');
  story.says('A assigns', 'A');
  story.client('B', 'eager');
  story.says('B joins', 'B');
  story.says('A hears of it, lets go, joins again and assigns', 'A');
  story.says('B asks what it gets', 'B');
  story.dies('B');
  story.passes('nothing was heard of B for its session', 'session/B');
  story.says('A hears of it, joins again and assigns', 'A');
  story.client('C', 'eager');
  story.says('C joins', 'C');
  story.passes('A, which does not hear of it, is waited for no longer', 'barrier/');
  story.says('C assigns', 'C');
  story.says('A finds that it is not a member any more, and joins', 'A');
  story.leaves('C leaves', 'C');
  story.says('A assigns', 'A');
  expect(story.lines).toEqual(EAGER.trim().split('\n'));
});

const COOPERATIVE = `
# A joins
generation 0, assigned 0, nobody leads
A epoch 0 since 1, holds nothing, target nothing
= preparing-rebalance
# nobody else comes
generation 1, assigned 0, A leads by cooperative-sticky
A epoch 1 since 1, holds nothing, target nothing
= completing-rebalance
# A assigns
generation 1, assigned 1, A leads by cooperative-sticky
A epoch 1 since 1, holds t/0@1 t/1@1 t/2@1 t/3@1, target t/0 t/1 t/2 t/3
A works on t/0 t/1 t/2 t/3
= stable
# B joins
B epoch 0 since 2, holds nothing, target nothing
= preparing-rebalance
# A joins again, leaves out what it has to give up first, gives it up, and joins once more
generation 2, assigned 1, A leads by cooperative-sticky
A epoch 2 since 1, holds t/0@1 t/1@1 t/2@1 t/3@1, target t/0 t/1 t/2 t/3
B epoch 2 since 2, holds nothing, target nothing
generation 2, assigned 2, A leads by cooperative-sticky
A epoch 2 since 1, holds t/0@2 t/2@2, gives up t/1@1 t/3@1, target t/0 t/2
B epoch 2 since 2, holds nothing, target nothing
A epoch 2 since 1, holds t/0@2 t/2@2, target t/0 t/2
A works on t/0 t/2
= preparing-rebalance
# B gets nothing yet, and joins again
generation 3, assigned 2, A leads by cooperative-sticky
A epoch 3 since 1, holds t/0@2 t/2@2, target t/0 t/2
B epoch 3 since 2, holds nothing, target nothing
= completing-rebalance
# A assigns what nobody works on any more
generation 3, assigned 3, A leads by cooperative-sticky
A epoch 3 since 1, holds t/0@3 t/2@3, target t/0 t/2
B epoch 3 since 2, holds t/1@3 t/3@3, target t/1 t/3
B works on t/1 t/3
= stable
# B works
= stable
`;

test('cooperative members, who give up what another is to have before it gets it', () => {
  const story = new KafkaStory({ t: 4 });
  story.client('A', 'cooperative');
  story.says('A joins', 'A');
  story.passes('nobody else comes', 'barrier/');
  story.says('A assigns', 'A');
  story.client('B', 'cooperative');
  story.says('B joins', 'B');
  story.says('A joins again, leaves out what it has to give up first, gives it up, and joins once more', 'A');
  story.says('B gets nothing yet, and joins again', 'B');
  story.says('A assigns what nobody works on any more', 'A');
  story.says('B works', 'B');
  expect(story.lines).toEqual(COOPERATIVE.trim().split('\n'));
});

const STATIC = `
# A joins
generation 0, assigned 0, nobody leads
A epoch 0 since 1, holds nothing, target nothing
= preparing-rebalance
# B joins
B epoch 0 since 1, holds nothing, target nothing
= preparing-rebalance
# the wait begins again, since B came
= preparing-rebalance
# nobody else comes
generation 1, assigned 0, A leads by range
A epoch 1 since 1, holds nothing, target nothing
B epoch 1 since 1, holds nothing, target nothing
= completing-rebalance
# A assigns
generation 1, assigned 1, A leads by range
A epoch 1 since 1, holds t/0@1, target t/0
B epoch 1 since 1, holds t/1@1, target t/1
A works on t/0
= stable
# B asks what it gets
B works on t/1
= stable
# till-2 starts again
B removed
B2 epoch 1 since 1, holds nothing, target t/1
B2 epoch 1 since 1, holds t/1@1, target t/1
B2 works on t/1
= stable
# A goes on
= stable
`;

test('a static member that comes back takes its place without a rebalance', () => {
  const story = new KafkaStory({ t: 2 });
  story.client('A', 'eager', 'till-1');
  story.client('B', 'eager', 'till-2');
  story.says('A joins', 'A');
  story.says('B joins', 'B');
  story.passes('the wait begins again, since B came', 'barrier/');
  story.passes('nobody else comes', 'barrier/');
  story.says('A assigns', 'A');
  story.says('B asks what it gets', 'B');
  story.dies('B');
  story.client('B2', 'eager', 'till-2');
  story.says('till-2 starts again', 'B2');
  story.says('A goes on', 'A');
  expect(story.lines).toEqual(STATIC.trim().split('\n'));
});

const MIXED = `
# A joins
generation 0, assigned 0, nobody leads
A epoch 0 since 1, holds nothing, target nothing
= preparing-rebalance
# nobody else comes
generation 1, assigned 0, A leads by range
A epoch 1 since 1, holds nothing, target nothing
= completing-rebalance
# A assigns
generation 1, assigned 1, A leads by range
A epoch 1 since 1, holds t/0@1 t/1@1 t/2@1 t/3@1 t/4@1 t/5@1, target t/0 t/1 t/2 t/3 t/4 t/5
A works on t/0 t/1 t/2 t/3 t/4 t/5
= stable
# C joins with the new protocol
group epoch 1
A epoch 1 since 1, holds t/0@1 t/1@1 t/2@1 t/3@1 t/4@1 t/5@1, target t/0 t/1 t/2 t/3 t/4 t/5
group epoch 2
A epoch 1 since 1, holds t/0@1 t/1@1 t/2@1, gives up t/3@1 t/4@1 t/5@1, target t/0 t/1 t/2
C epoch 2 since 2, holds nothing, target t/3 t/4 t/5
= reconciling
# A joins again, a follower without a leader
A epoch 2 since 1, holds t/0@1 t/1@1 t/2@1, target t/0 t/1 t/2
C epoch 2 since 2, holds t/3@2 t/4@2 t/5@2, target t/3 t/4 t/5
A epoch 2 since 1, holds t/0@1 t/1@1 t/2@1, target t/0 t/1 t/2
A works on t/0 t/1 t/2
= stable
# C hears what it gets
C epoch 2 since 2, holds t/3@2 t/4@2 t/5@2, target t/3 t/4 t/5
C works on t/3 t/4 t/5
= stable
# S joins by gRPC
group epoch 3
A epoch 2 since 1, holds t/0@1 t/1@1, gives up t/2@1, target t/0 t/1
C epoch 2 since 2, holds t/3@2 t/4@2, gives up t/5@2, target t/3 t/4
S epoch 3 since 3, holds nothing, target t/2 t/5
= reconciling
# A joins again
A epoch 3 since 1, holds t/0@1 t/1@1, target t/0 t/1
S epoch 3 since 3, holds t/2@3, target t/2 t/5
A epoch 3 since 1, holds t/0@1 t/1@1, target t/0 t/1
A works on t/0 t/1
= reconciling
# C gives up
C epoch 2 since 2, holds t/3@2 t/4@2, gives up t/5@2, target t/3 t/4
C works on t/3 t/4
= reconciling
# C has given up
C epoch 3 since 2, holds t/3@2 t/4@2, target t/3 t/4
S epoch 3 since 3, holds t/2@3 t/5@3, target t/2 t/5
= stable
# S dies
group epoch 4
S removed
A epoch 4 since 1, holds t/0@1 t/1@1 t/2@4, target t/0 t/1 t/2
C epoch 4 since 2, holds t/3@2 t/4@2 t/5@4, target t/3 t/4 t/5
= stable
# A hears of it
A epoch 4 since 1, holds t/0@1 t/1@1 t/2@4, target t/0 t/1 t/2
A epoch 4 since 1, holds t/0@1 t/1@1 t/2@4, target t/0 t/1 t/2
A works on t/0 t/1 t/2
= stable
# C hears of it
C epoch 4 since 2, holds t/3@2 t/4@2 t/5@4, target t/3 t/4 t/5
C works on t/3 t/4 t/5
= stable
# C leaves
group epoch 5
C removed
A epoch 5 since 1, holds t/0@1 t/1@1 t/2@4 t/3@5 t/4@5 t/5@5, target t/0 t/1 t/2 t/3 t/4 t/5
= stable
# A has everything again, and the broker goes on assigning
A epoch 5 since 1, holds t/0@1 t/1@1 t/2@4 t/3@5 t/4@5 t/5@5, target t/0 t/1 t/2 t/3 t/4 t/5
A epoch 5 since 1, holds t/0@1 t/1@1 t/2@4 t/3@5 t/4@5 t/5@5, target t/0 t/1 t/2 t/3 t/4 t/5
A works on t/0 t/1 t/2 t/3 t/4 t/5
= stable
# A leaves
group epoch 6
A removed
= empty
# D joins
generation 6, assigned 6, nobody leads
D epoch 0 since 7, holds nothing, target nothing
= preparing-rebalance
# nobody else comes
generation 7, assigned 6, D leads by range
D epoch 7 since 7, holds nothing, target nothing
= completing-rebalance
# D assigns: members who are all classic do it themselves again
generation 7, assigned 7, D leads by range
D epoch 7 since 7, holds t/0@7 t/1@7 t/2@7 t/3@7 t/4@7 t/5@7, target t/0 t/1 t/2 t/3 t/4 t/5
D works on t/0 t/1 t/2 t/3 t/4 t/5
= stable
`;

test('members of the classic protocol, of the new one and of gRPC in one group, to whom the broker assigns', () => {
  const story = new KafkaStory({ t: 6 });
  story.client('A', 'eager');
  story.says('A joins', 'A');
  story.passes('nobody else comes', 'barrier/');
  story.says('A assigns', 'A');
  story.client('C', 'consumer');
  story.says('C joins with the new protocol', 'C');
  story.says('A joins again, a follower without a leader', 'A');
  story.says('C hears what it gets', 'C');
  const { group } = story;
  story.step('S joins by gRPC', () => group.decide(join('S', { topics: ['t'] })));
  story.says('A joins again', 'A');
  story.says('C gives up', 'C');
  story.says('C has given up', 'C');
  story.step('S dies', () => group.decide({ type: 'timer', key: 'session/S' }));
  story.says('A hears of it', 'A');
  story.says('C hears of it', 'C');
  story.leaves('C leaves', 'C');
  story.says('A has everything again, and the broker goes on assigning', 'A');
  story.leaves('A leaves', 'A');
  story.client('D', 'eager');
  story.says('D joins', 'D');
  story.passes('nobody else comes', 'barrier/');
  story.says('D assigns: members who are all classic do it themselves again', 'D');
  expect(story.lines).toEqual(MIXED.trim().split('\n'));
});
