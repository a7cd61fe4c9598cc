/** Settings of topics and of the broker as Kafka's tools read and write them, frame by frame. */
import { SeededRandom, VirtualClock } from '@naru/testkit';
import { kafkaErrorNameOf } from '@naru/protocol/kafka';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AdminScenario } from './admin-scenario.ts';

let admin: AdminScenario;

beforeEach(async () => {
  admin = await AdminScenario.start(new VirtualClock(), new SeededRandom(1));
  await admin.create('orders');
});

afterEach(() => admin.close());

const TOPIC = 2;
const BROKER = 4;
const LOGGER = 8;
const OPERATION = { set: 0, delete: 1, append: 2, subtract: 3 } as const;

async function describeOne(resourceType: number, resourceName: string, keys: readonly string[] | null, version = 4) {
  const { results } = await admin.ask(
    'describeConfigs',
    {
      resources: [{ resourceType, resourceName, configurationKeys: keys }],
      includeSynonyms: true,
      includeDocumentation: version >= 3,
    },
    version,
  );
  const result = results[0];
  if (result === undefined) throw new Error('nothing was answered');
  return result;
}

async function replace(configs: Readonly<Record<string, string | null>>, validateOnly = false, version = 2) {
  const entries = Object.entries(configs).map(([name, value]) => ({ name, value }));
  const resources = [{ resourceType: TOPIC, resourceName: 'orders', configs: entries }];
  const { responses } = await admin.ask('alterConfigs', { resources, validateOnly }, version);
  return responses.map(({ errorCode }) => kafkaErrorNameOf(errorCode));
}

type Operation = readonly [name: string, operation: keyof typeof OPERATION, value: string | null];

async function alter(operations: readonly Operation[], validateOnly = false, version = 1, resourceName = 'orders') {
  const configs = operations.map(([name, operation, value]) => ({
    name,
    configOperation: OPERATION[operation],
    value,
  }));
  const resources = [{ resourceType: TOPIC, resourceName, configs }];
  const { responses } = await admin.ask('incrementalAlterConfigs', { resources, validateOnly }, version);
  return responses.map(({ errorCode, errorMessage }) => [kafkaErrorNameOf(errorCode), errorMessage] as const);
}

describe('DescribeConfigs', () => {
  it.each([1, 2, 3, 4])(
    'shows a topic’s settings with type, source and what they stand in for (v%i)',
    async (version) => {
      await alter([['retention.ms', 'set', '1000']]);
      const keys = ['segment.bytes', 'retention.ms', 'cleanup.policy', 'no.such', 'min.insync.replicas'];
      const { errorCode, configs } = await describeOne(TOPIC, 'orders', keys, version);
      expect(errorCode).toBe(0);
      expect(configs.map(({ name, value, configSource }) => [name, value, configSource])).toEqual([
        ['cleanup.policy', 'delete', 5],
        ['min.insync.replicas', '1', 5],
        ['retention.ms', '1000', 1],
        // naru.yaml says so.
        ['segment.bytes', '1048576', 4],
      ]);
      expect(configs[2]?.synonyms).toEqual([
        { name: 'retention.ms', value: '1000', source: 1 },
        { name: 'log.retention.ms', value: '604800000', source: 5 },
      ]);
      if (version < 3) return;
      expect(configs.map(({ configType }) => configType)).toEqual([7, 3, 5, 3]);
      expect(configs.every(({ documentation }) => (documentation ?? '').length > 0)).toBe(true);
    },
  );

  it.each([[null], [[]]])('shows everything when no keys are named (%j), ours and Kafka’s', async (keys) => {
    const { configs } = await describeOne(TOPIC, 'orders', keys);
    const names = configs.map(({ name }) => name);
    expect(names).toEqual([...names].sort());
    expect(names).toEqual(
      expect.arrayContaining(['acknowledged.groups', 'compression.type', 'flush.ms', 'max.message.bytes']),
    );
    const values = new Map(configs.map(({ name, value }) => [name, value]));
    // Where we say −1 and Kafka has no such value.
    expect(values.get('max.compaction.lag.ms')).toBe('9223372036854775807');
    expect(values.get('allow.key.reorder')).toBe('true');
    // What it shows can be written back.
    expect(await replace(Object.fromEntries(values))).toEqual(['NONE']);
    const after = await describeOne(TOPIC, 'orders', keys);
    expect(after.configs.map(({ name, value }) => [name, value])).toEqual(
      configs.map(({ name, value }) => [name, value]),
    );
  });

  it('shows the broker’s settings, all of them read-only, and its logger', async () => {
    const { configs } = await describeOne(BROKER, '1', null);
    const values = Object.fromEntries(configs.map(({ name, value, configSource }) => [name, [value, configSource]]));
    expect(values).toMatchObject({
      'advertised.listeners': ['PLAINTEXT://broker.example:9092', 4],
      'auto.create.topics.enable': ['true', 4],
      'default.replication.factor': ['1', 5],
      'log.retention.ms': ['604800000', 5],
      'log.segment.bytes': ['1048576', 4],
      'num.partitions': ['3', 4],
    });
    expect(configs.every(({ readOnly }) => readOnly)).toBe(true);
    expect((await describeOne(BROKER, '', null)).configs).toEqual([]);
    expect((await describeOne(LOGGER, '1', null)).configs).toMatchObject([
      { name: 'root', value: 'INFO', configSource: 6 },
    ]);
  });

  it('answers for a resource once', async () => {
    const resource = { resourceType: TOPIC, resourceName: 'orders', configurationKeys: null };
    const { results } = await admin.ask('describeConfigs', { resources: [resource, resource] });
    expect(results.map(({ errorCode, configs }) => [kafkaErrorNameOf(errorCode), configs.length])).toEqual([
      ['INVALID_REQUEST', 0],
      ['INVALID_REQUEST', 0],
    ]);
  });

  it.each([
    [TOPIC, 'missing', 'UNKNOWN_TOPIC_OR_PARTITION'],
    [TOPIC, 'no spaces', 'INVALID_TOPIC_EXCEPTION'],
    [BROKER, '2', 'INVALID_REQUEST'],
    [BROKER, 'one', 'INVALID_REQUEST'],
    [LOGGER, '', 'INVALID_REQUEST'],
    [16, 'metrics', 'INVALID_REQUEST'],
    [99, 'what', 'INVALID_REQUEST'],
  ])('refuses resource type %i, name %j with %s', async (type, name, code) => {
    const result = await describeOne(type, name, null);
    expect([kafkaErrorNameOf(result.errorCode), result.configs]).toEqual([code, []]);
    expect(result).toMatchObject({ resourceType: type, resourceName: name });
  });
});

describe('AlterConfigs', () => {
  it.each([0, 1, 2])('puts a whole set in the place of what was set (v%i)', async (version) => {
    await replace({ 'retention.ms': '1000', 'flush.ms': '5' });
    expect(await replace({ 'cleanup.policy': 'compact' }, true, version)).toEqual(['NONE']);
    const keys = ['cleanup.policy', 'retention.ms', 'flush.ms', 'allow.key.reorder'];
    const before = { 'cleanup.policy': 'delete', 'retention.ms': '1000', 'flush.ms': '5', 'allow.key.reorder': 'true' };
    expect(await admin.configOf('orders', keys)).toEqual(before);
    expect(await replace({ 'cleanup.policy': 'compact' }, false, version)).toEqual(['NONE']);
    expect(await admin.configOf('orders', keys)).toEqual({
      'cleanup.policy': 'compact',
      'retention.ms': '604800000',
      'flush.ms': '9223372036854775807',
      'allow.key.reorder': 'true',
    });
  });

  it('changes nothing of a topic when one of its settings is refused', async () => {
    expect(await replace({ 'retention.ms': '1000', 'compression.type': 'gzip' })).toEqual(['INVALID_CONFIG']);
    expect(await replace({ 'retention.ms': '1000', 'segment.ms': null })).toEqual(['INVALID_REQUEST']);
    expect(await admin.configOf('orders', ['retention.ms'])).toEqual({ 'retention.ms': '604800000' });
  });

  it('answers each resource for itself; brokers and what has no settings are refused', async () => {
    const configs = [{ name: 'retention.ms', value: '1000' }];
    const resource = (resourceType: number, resourceName: string) => ({ resourceType, resourceName, configs });
    const resources = [
      resource(TOPIC, 'orders'),
      resource(TOPIC, 'missing'),
      resource(BROKER, '1'),
      resource(BROKER, ''),
      resource(BROKER, '7'),
      { ...resource(BROKER, '1'), resourceType: LOGGER, configs: [] },
      resource(16, 'metrics'),
      resource(TOPIC, '__groups'),
      resource(TOPIC, 'twice'),
      resource(TOPIC, 'twice'),
    ];
    const { responses } = await admin.ask('alterConfigs', { resources, validateOnly: false });
    expect(responses.map(({ errorCode }) => kafkaErrorNameOf(errorCode))).toEqual([
      'NONE',
      'UNKNOWN_TOPIC_OR_PARTITION',
      'INVALID_REQUEST',
      'INVALID_REQUEST',
      'INVALID_REQUEST',
      'NONE',
      'INVALID_REQUEST',
      'INVALID_TOPIC_EXCEPTION',
      'INVALID_REQUEST',
      'INVALID_REQUEST',
    ]);
    expect(responses[2]?.errorMessage).toContain('naru.yaml');
  });
});

describe('IncrementalAlterConfigs', () => {
  it.each([0, 1])('sets, deletes, and adds to and takes from lists (v%i)', async (version) => {
    const policy = async (): Promise<unknown> => (await admin.configOf('orders', ['cleanup.policy']))['cleanup.policy'];
    const one = async (...operation: Operation): Promise<unknown> => {
      expect(await alter([operation], false, version)).toEqual([['NONE', null]]);
      return policy();
    };
    expect(await one('cleanup.policy', 'set', 'compact')).toBe('compact');
    expect(await one('cleanup.policy', 'append', 'delete')).toBe('compact,delete');
    expect(await one('cleanup.policy', 'append', 'delete')).toBe('compact,delete');
    expect(await one('cleanup.policy', 'subtract', 'compact')).toBe('delete');
    expect(await one('cleanup.policy', 'delete', null)).toBe('delete');
    expect(await one('retention.ms', 'set', '9223372036854775807')).toBe('delete');
    expect(await admin.configOf('orders', ['retention.ms'])).toEqual({ 'retention.ms': '-1' });
  });

  it.each<[string, Operation[]]>([
    ['retention.ms is no list', [['retention.ms', 'append', '5']]],
    ['cleanup.policy: expected', [['cleanup.policy', 'subtract', 'delete']]],
    ['min.insync.replicas: takes only 1', [['min.insync.replicas', 'set', '2']]],
    ['message.timestamp.type: takes only CreateTime', [['message.timestamp.type', 'set', 'LogAppendTime']]],
    ['flush.ms: expected a value of type long', [['flush.ms', 'set', '1s']]],
    ['segment.index.bytes: expected a value of type int', [['segment.index.bytes', 'set', '2147483648']]],
    ['there is no setting "__proto__"', [['__proto__', 'set', '1']]],
    ['there is no setting "no.such"', [['no.such', 'delete', null]]],
  ])('refuses as INVALID_CONFIG: %s', async (message, operations) => {
    const [answer] = await alter([['retention.bytes', 'set', '5'], ...operations]);
    expect(answer?.[0]).toBe('INVALID_CONFIG');
    expect(answer?.[1]).toContain(message);
    expect(await admin.configOf('orders', ['retention.bytes'])).toEqual({ 'retention.bytes': '-1' });
  });

  it('takes Kafka’s own settings where they promise nothing false, and shows what was set', async () => {
    const set = {
      'compression.type': 'producer',
      'flush.ms': '1000',
      'leader.replication.throttled.replicas': '0:1',
      'message.timestamp.type': 'CreateTime',
      'min.insync.replicas': '1',
      'unclean.leader.election.enable': 'true',
    };
    expect(await alter(Object.entries(set).map(([name, value]) => [name, 'set', value]))).toEqual([['NONE', null]]);
    expect(await admin.configOf('orders', Object.keys(set))).toEqual(set);
  });

  it('refuses operations that nobody knows, values that are missing, and settings named twice', async () => {
    expect((await alter([['retention.ms', 'set', null]]))[0]?.[0]).toBe('INVALID_REQUEST');
    const twice: Operation = ['retention.ms', 'set', '1000'];
    expect((await alter([twice, twice]))[0]?.[0]).toBe('INVALID_REQUEST');
    const configs = [{ name: 'retention.ms', configOperation: 9, value: '1000' }];
    const resources = [{ resourceType: TOPIC, resourceName: 'orders', configs }];
    const { responses } = await admin.ask('incrementalAlterConfigs', { resources, validateOnly: false });
    expect(responses.map(({ errorCode }) => kafkaErrorNameOf(errorCode))).toEqual(['INVALID_REQUEST']);
    expect(await admin.configOf('orders', ['retention.ms'])).toEqual({ 'retention.ms': '604800000' });
  });

  it.each([0, 1])('answers a text of any length with a short message (v%i)', async (version) => {
    const long = 'x'.repeat(32_000);
    for (const operation of [
      [long, 'set', '1'],
      ['retention.ms', 'set', long],
      ['acknowledged.groups', 'append', long],
      ['follower.replication.throttled.replicas', 'set', long],
    ] as const) {
      const [answer] = await alter([operation], false, version);
      expect(answer?.[0]).toBe('INVALID_CONFIG');
      expect(answer?.[1]?.length).toBeLessThan(1_100);
    }
    expect((await alter([['retention.ms', 'set', '1000']], false, version, long))[0]?.[0]).toBe(
      'UNKNOWN_TOPIC_OR_PARTITION',
    );
  });

  it('loses none of several changes that come at the same time', async () => {
    const changes: Operation[] = [
      ['retention.ms', 'set', '1000'],
      ['retention.bytes', 'set', '2000'],
      ['segment.ms', 'set', '3000'],
      ['cleanup.policy', 'append', 'compact'],
    ];
    const answers = await Promise.all(changes.map((change) => alter([change])));
    expect(answers.flat().map(([name]) => name)).toEqual(['NONE', 'NONE', 'NONE', 'NONE']);
    expect(
      await admin.configOf(
        'orders',
        changes.map(([name]) => name),
      ),
    ).toEqual({
      'cleanup.policy': 'compact,delete',
      'retention.bytes': '2000',
      'retention.ms': '1000',
      'segment.ms': '3000',
    });
  });

  it('changes nothing when it only validates', async () => {
    expect(await alter([['cleanup.policy', 'set', 'compact']], true)).toEqual([['NONE', null]]);
    expect((await alter([['cleanup.policy', 'set', 'shred']], true))[0]?.[0]).toBe('INVALID_CONFIG');
    expect((await alter([['cleanup.policy', 'set', 'compact']], true, 1, 'missing'))[0]?.[0]).toBe(
      'UNKNOWN_TOPIC_OR_PARTITION',
    );
    expect(await admin.configOf('orders', ['cleanup.policy'])).toEqual({ 'cleanup.policy': 'delete' });
  });
});
