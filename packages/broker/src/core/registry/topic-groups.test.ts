import { describe, expect, it } from 'vitest';
import { parseTopicGroups, topicGroupsText } from './topic-groups.ts';

describe('the groups of a topic', () => {
  it('are read, and written in one form', () => {
    const groups = parseTopicGroups(' payment , shipping : order = 2 : on-dead-letter=release:after-dead-letter=park,');
    expect(groups).toEqual([
      { name: 'payment', order: 1, afterDeadLetter: 'continue', onDeadLetter: 'withhold' },
      { name: 'shipping', order: 2, afterDeadLetter: 'park', onDeadLetter: 'release' },
    ]);
    if ('wrong' in groups) return;
    const text = topicGroupsText(groups);
    expect(text).toBe('payment,shipping:order=2:after-dead-letter=park:on-dead-letter=release');
    expect(parseTopicGroups(text)).toEqual(groups);
  });

  it.each([
    ['a,b,a', 'group "a" is there twice'],
    ['a:order=0', 'group "a": order: expected a whole number from 1 to 100, got "0"'],
    ['a:order=', 'group "a": order: expected a whole number from 1 to 100, got ""'],
    ['a:order', 'group "a": expected option=value, got "order"'],
    ['a:oder=1', 'group "a": expected order, after-dead-letter or on-dead-letter, got "oder=1"'],
    ['a:after-dead-letter=stop', 'group "a": after-dead-letter: expected continue or park, got "stop"'],
    ['a:on-dead-letter=park', 'group "a": on-dead-letter: expected withhold or release, got "park"'],
  ])('say what is wrong with %s', (text, wrong) => {
    expect(parseTopicGroups(text)).toEqual({ wrong });
  });

  it('are at most a hundred', () => {
    const text = Array.from({ length: 101 }, (_, index) => `group-${index}`).join(',');
    expect(parseTopicGroups(text)).toEqual({ wrong: 'expected at most 100 groups, got 101' });
  });
});
