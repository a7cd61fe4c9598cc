import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  changeTopicConfig,
  describeTopicConfig,
  topicConfig,
  topicConfigNames,
  type TopicConfigDefaults,
  type TopicConfigTexts,
} from './topic-config.ts';

const DEFAULTS: TopicConfigDefaults = {
  retentionMs: 604_800_000,
  retentionBytes: Infinity,
  allowKeyReorder: false,
  segmentMs: 1_000_000,
  segmentBytes: 1_048_576,
  maxBatchBytes: 100_000,
};

describe('a topic’s settings', () => {
  it('are the broker’s where nothing is set', () => {
    expect(topicConfig({}, DEFAULTS)).toEqual({
      cleanup: { delete: true, compact: false, acknowledged: false },
      retentionMs: 604_800_000,
      retentionBytes: Infinity,
      acknowledgedGroups: [],
      groups: [],
      deliveryLockMs: 30_000,
      deliveryLimit: 5,
      deliveryMaxInFlight: 2_000,
      acknowledgedFloorMs: 0,
      acknowledgedCeilingMs: Infinity,
      minCompactionLagMs: 0,
      maxCompactionLagMs: Infinity,
      minDirtyRatio: 0.5,
      deleteRetentionMs: 86_400_000,
      segmentMs: 1_000_000,
      segmentBytes: 1_048_576,
      maxBatchBytes: 100_000,
      allowKeyReorder: false,
    });
  });

  it('are kept in one form however they are written', () => {
    const written = {
      'retention.ms': ' 7d ',
      'retention.bytes': 'unlimited',
      'cleanup.policy': 'compact, delete',
      'min.cleanable.dirty.ratio': '.25',
      'segment.bytes': '1MiB',
    };
    const changed = changeTopicConfig({}, written);
    expect(changed).toEqual({
      config: {
        'retention.ms': '604800000',
        'retention.bytes': '-1',
        'cleanup.policy': 'compact,delete',
        'min.cleanable.dirty.ratio': '0.25',
        'segment.bytes': '1048576',
      },
    });
  });

  it('change one by one and go back to the default', () => {
    const before = { 'retention.ms': '1000', 'segment.ms': '5000' };
    expect(changeTopicConfig(before, { 'retention.ms': '2s' }, ['segment.ms'])).toEqual({
      config: { 'retention.ms': '2000' },
    });
  });

  it.each([
    [{ 'retention.msx': '1' }, 'there is no setting "retention.msx"; there are cleanup.policy'],
    [{ 'retention.ms': 'soon' }, 'retention.ms: expected a number with a unit'],
    [{ 'retention.ms': '-2' }, 'retention.ms: expected'],
    [{ 'retention.ms': '0' }, 'retention.ms: expected 1 ms or more'],
    [{ 'segment.bytes': '-1' }, 'segment.bytes: expected'],
    [{ 'cleanup.policy': '' }, 'cleanup.policy: expected delete, compact, acknowledged'],
    [{ 'cleanup.policy': 'delete,shred' }, 'cleanup.policy: expected delete, compact, acknowledged'],
    [{ 'min.cleanable.dirty.ratio': '1.5' }, 'min.cleanable.dirty.ratio: expected a number from 0 to 1'],
    [{ 'min.cleanable.dirty.ratio': '' }, 'min.cleanable.dirty.ratio: expected a number from 0 to 1'],
    [{ 'cleanup.policy': 'acknowledged' }, 'needs acknowledged.groups or groups'],
    [{ 'acknowledged.floor.ms': '2h', 'acknowledged.ceiling.ms': '1h' }, 'is below acknowledged.floor.ms'],
    [{ 'min.compaction.lag.ms': '2h', 'max.compaction.lag.ms': '1h' }, 'is below min.compaction.lag.ms'],
  ])('are refused when they are wrong: %j', (set, message) => {
    const refusal = changeTopicConfig({}, set);
    expect(refusal).toMatchObject({ code: 'INVALID_CONFIG' });
    expect((refusal as { message: string }).message).toContain(message);
  });

  it('go by the declared groups where no group is named that has to finish events', () => {
    const set = { 'cleanup.policy': 'acknowledged', groups: 'billing,shipping:order=2' };
    const changed = changeTopicConfig({}, set) as { config: TopicConfigTexts };
    expect(topicConfig(changed.config, DEFAULTS).acknowledgedGroups).toEqual(['billing', 'shipping']);
    const named = { ...changed.config, 'acknowledged.groups': 'audit' };
    expect(topicConfig(named, DEFAULTS).acknowledgedGroups).toEqual(['audit']);
    expect(changeTopicConfig(changed.config, {}, ['groups'])).toMatchObject({ code: 'INVALID_CONFIG' });
  });

  it('are not both set and unset', () => {
    expect(changeTopicConfig({}, { 'retention.ms': '1h' }, ['retention.ms'])).toMatchObject({ code: 'INVALID_CONFIG' });
  });

  it('are described one and all, with what is set told apart', () => {
    const entries = describeTopicConfig({ 'retention.ms': '1000' }, DEFAULTS);
    expect(entries.map(({ name }) => name)).toEqual(topicConfigNames());
    expect(entries.find(({ name }) => name === 'retention.ms')).toMatchObject({ value: '1000', isSet: true });
    expect(entries.find(({ name }) => name === 'retention.bytes')).toMatchObject({ value: '-1', isSet: false });
  });

  it('take every default that is described back as a value', () => {
    for (const { name, value } of describeTopicConfig({}, DEFAULTS)) {
      expect(changeTopicConfig({}, { [name]: value })).toEqual({ config: { [name]: value } });
    }
  });
});

describe('docs/topics.md', () => {
  it('lists every setting, and no other', () => {
    const document = readFileSync(new URL('../../../../../docs/topics.md', import.meta.url), 'utf8');
    const rows = document.matchAll(/^\| `([^`]+)` \|/gm);
    expect([...rows].map((row) => row[1])).toEqual(topicConfigNames());
  });
});
