/** What a gRPC client that knows nothing of us finds on the port: calls, streams, health, reflection. */
import {
  createFileRegistry,
  fromBinary,
  fromJson,
  toBinary,
  toJson,
  type DescService,
  type JsonValue,
} from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { Broker } from '@naru/broker';
import { decodeRecords, encodeBatch } from '@naru/protocol/batch';
import {
  AdminService,
  health,
  PublisherService,
  reflectionV1,
  reflectionV1Alpha,
  SubscriberService,
} from '@naru/protocol/proto';
import { SeededRandom, SimDisk } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GrpcClient, naruErrorOf } from './grpc-client.ts';

const { SERVING, NOT_SERVING, SERVICE_UNKNOWN } = health.HealthCheckResponse_ServingStatus;
const BEGINNING = { position: { case: 'beginning', value: true } } as const;
const OUR_SERVICES = [
  'naru.v1.PublisherService',
  'naru.v1.SubscriberService',
  'naru.v1.AdminService',
  'naru.v1.DeadLetterService',
  'naru.v1.TraceService',
  'naru.v1.TransactionService',
];

let broker: Broker;
let client: GrpcClient;

beforeEach(async () => {
  broker = await Broker.start({ storage: 'memory', port: 0 });
  client = new GrpcClient(broker.bootstrap);
});

afterEach(async () => {
  client[Symbol.dispose]();
  await broker.close();
});

async function createTopic(name: string): Promise<Uint8Array> {
  const { topic } = await client.call(AdminService.method.createTopic, { name, partitionCount: 1 });
  return topic?.topicId ?? new Uint8Array();
}

describe('@grpc/grpc-js', () => {
  it('publishes, joins, polls, commits and leaves by calls', async () => {
    await createTopic('orders');
    const records = [{ keyText: 'a', valueText: 'one' }, { valueText: 'two' }];
    const { results } = await client.call(PublisherService.method.publish, { topic: 'orders', records });
    expect(results.map(({ offset }) => offset)).toEqual([0n, 1n]);
    const join = { groupId: 'billing', topics: ['orders'], start: BEGINNING };
    const { sessionId } = await client.call(SubscriberService.method.join, join);
    const { pollId, records: polled } = await client.call(SubscriberService.method.poll, { sessionId });
    expect(polled.map(({ valueText, requestId }) => [valueText, requestId])).toEqual([
      ['one', results[0]?.requestId],
      ['two', results[1]?.requestId],
    ]);
    const { committed } = await client.call(SubscriberService.method.commit, { sessionId, pollId });
    expect(committed).toMatchObject([{ topic: 'orders', offset: 2n }]);
    await client.call(SubscriberService.method.leave, { sessionId });
    const late = await client.call(SubscriberService.method.poll, { sessionId }).catch((error: unknown) => error);
    expect(late).toMatchObject({ code: status.FAILED_PRECONDITION });
    expect(naruErrorOf(late)).toMatchObject({ code: 'UNKNOWN_MEMBER_ID', retriable: false });
  });

  it('publishes and subscribes by streams', async () => {
    const topicId = await createTopic('orders');
    const publishing = client.talk(PublisherService.method.publishStream);
    const opened = await publishing.ask({ message: { case: 'open', value: { clientId: 'test' } } });
    expect(opened?.message).toMatchObject({ case: 'opened' });
    const batch = encodeBatch([{ key: null, value: Buffer.from('one'), timestampMs: 1_000 }]);
    const request = { correlationId: 7, topicId, partition: 0, records: batch };
    const acked = await publishing.ask({ message: { case: 'batch', value: request } });
    expect(acked?.message).toMatchObject({ case: 'acks', value: { acks: [{ correlationId: 7, baseOffset: 0n }] } });
    publishing.finish();
    expect(await publishing.hear()).toBeNull();

    const subscribing = client.talk(SubscriberService.method.subscribe);
    const join = { groupId: 'billing', memberId: 'a', topics: ['orders'], start: BEGINNING };
    const joined = await subscribing.ask({ message: { case: 'join', value: join } });
    expect(joined?.message).toMatchObject({ case: 'joined', value: { memberId: 'a' } });
    expect((await subscribing.hear())?.message).toMatchObject({ case: 'assigned' });
    const polled = await subscribing.ask({ message: { case: 'poll', value: { pollId: 3, maxWaitMs: 5_000 } } });
    const given = polled?.message.case === 'records' ? polled.message.value : undefined;
    expect(given?.pollId).toBe(3);
    const [record] = decodeRecords(given?.partitions[0]?.batches ?? new Uint8Array());
    expect(Buffer.from(record?.value ?? []).toString()).toBe('one');
    expect((await subscribing.ask({ message: { case: 'leave', value: {} } }))?.message.case).toBe('left');
    expect(await subscribing.hear()).toBeNull();
  });
});

describe('health', () => {
  it.each(['', ...OUR_SERVICES])('says that "%s" serves', async (service) => {
    expect(await client.call(health.Health.method.check, { service })).toMatchObject({ status: SERVING });
  });

  it('does not know other services', async () => {
    const error = await client.call(health.Health.method.check, { service: 'x' }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: status.NOT_FOUND });
    const watch = client.watch(health.Health.method.watch, { service: 'x' });
    watch.on('error', () => {});
    for await (const { status: said } of watch) {
      expect(said).toBe(SERVICE_UNKNOWN);
      break;
    }
  });

  it('tells whoever watches that the broker goes', async () => {
    const said: health.HealthCheckResponse_ServingStatus[] = [];
    for await (const { status: now } of client.watch(health.Health.method.watch, { service: '' })) {
      said.push(now);
      if (now === SERVING) void broker.close();
    }
    expect(said).toEqual([SERVING, NOT_SERVING]);
  });

  it('says that a broker whose disk fails does not serve, also to those who watch', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'naru-health-'));
    const disk = new SimDisk(new SeededRandom(1));
    const failing = await Broker.start({ storage: 'file', data: dataDir, port: 0 }, { disk });
    const other = new GrpcClient(failing.bootstrap);
    try {
      const { check, watch } = health.Health.method;
      const watching = other.watch(watch, { service: OUR_SERVICES[0]! })[Symbol.asyncIterator]();
      expect((await watching.next()).value).toMatchObject({ status: SERVING });
      await other.call(AdminService.method.createTopic, { name: 'orders', partitionCount: 1 });
      disk.addFault({ operation: 'write', code: 'EIO' });
      const publish = { topic: 'orders', records: [{ valueText: 'x' }] };
      const { results } = await other.call(PublisherService.method.publish, publish);
      expect(results).toMatchObject([{ error: { code: 'STORAGE_ERROR' } }]);
      expect(await failing.failed).toMatchObject({ code: 'STORAGE_ERROR' });
      expect((await watching.next()).value).toMatchObject({ status: NOT_SERVING });
      for (const service of ['', ...OUR_SERVICES]) {
        expect(await other.call(check, { service })).toMatchObject({ status: NOT_SERVING });
      }
    } finally {
      other[Symbol.dispose]();
      await failing.close().catch(() => {});
      await rm(dataDir, { recursive: true, force: true });
    }
  });
});

/** Everything that the answer to one question of the reflection describes. */
function registryOf(message: reflectionV1.ServerReflectionResponse['messageResponse'] | undefined) {
  if (message?.case !== 'fileDescriptorResponse') throw new Error(`no files but ${message?.case}`);
  const file = message.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
  // A set has what is imported before what imports it.
  const set = toBinary(FileDescriptorSetSchema, {
    $typeName: 'google.protobuf.FileDescriptorSet',
    file: file.reverse(),
  });
  return createFileRegistry(fromBinary(FileDescriptorSetSchema, set));
}

describe.each([
  ['v1', reflectionV1.ServerReflection.method.serverReflectionInfo],
  ['v1alpha', reflectionV1Alpha.ServerReflection.method.serverReflectionInfo as never],
] as const)('reflection %s', (_version, method: typeof reflectionV1.ServerReflection.method.serverReflectionInfo) => {
  it('lists every service', async () => {
    const reflection = client.talk(method);
    const answer = await reflection.ask({ messageRequest: { case: 'listServices', value: '' } });
    const listed = answer?.messageResponse.case === 'listServicesResponse' ? answer.messageResponse.value.service : [];
    expect(listed.map(({ name }) => name)).toEqual([
      ...OUR_SERVICES,
      'grpc.health.v1.Health',
      'grpc.reflection.v1.ServerReflection',
      'grpc.reflection.v1alpha.ServerReflection',
    ]);
    for (const { name } of listed) {
      const described = await reflection.ask({ messageRequest: { case: 'fileContainingSymbol', value: name } });
      expect(registryOf(described?.messageResponse).getService(name)?.typeName).toBe(name);
    }
    reflection.finish();
    expect(await reflection.hear()).toBeNull();
  });

  it('describes services so that a client can call them which knows nothing else', async () => {
    const reflection = client.talk(method);
    const find = async (name: string): Promise<DescService> => {
      const answer = await reflection.ask({ messageRequest: { case: 'fileContainingSymbol', value: name } });
      const service = registryOf(answer?.messageResponse).getService(name);
      if (service === undefined) throw new Error(`${name} is not described`);
      return service;
    };
    const call = async (service: DescService, name: string, request: JsonValue): Promise<unknown> => {
      const found = service.methods.find((entry) => entry.name === name);
      if (found === undefined) throw new Error(`${name} is not described`);
      return toJson(found.output, await client.call(found, fromJson(found.input, request)));
    };
    await call(await find('naru.v1.AdminService'), 'CreateTopic', { name: 'orders', partitionCount: 1 });
    const publisher = await find('naru.v1.PublisherService');
    await call(publisher, 'Publish', { topic: 'orders', records: [{ valueJson: { total: 5 } }] });
    const subscriber = await find('naru.v1.SubscriberService');
    const joined = await call(subscriber, 'Join', { topics: ['orders'], start: { beginning: true } });
    const { sessionId } = joined as { sessionId: string };
    const polled = await call(subscriber, 'Poll', { sessionId, format: 'RECORD_FORMAT_JSON' });
    expect(polled).toMatchObject({ records: [{ topic: 'orders', valueJson: { total: 5 } }] });
    reflection.finish();
  });

  it('finds files by name and by members, and says what it does not have', async () => {
    const reflection = client.talk(method);
    for (const question of [
      { case: 'fileByFilename', value: 'naru/v1/common.proto' },
      { case: 'fileByFilename', value: 'google/protobuf/struct.proto' },
      { case: 'fileContainingSymbol', value: 'naru.v1.PublisherService.Publish' },
      { case: 'fileContainingSymbol', value: 'naru.v1.PublishRecord.key' },
    ] as const) {
      expect((await reflection.ask({ messageRequest: question }))?.messageResponse.case).toBe('fileDescriptorResponse');
    }
    const extension = { containingType: 'naru.v1.Topic', extensionNumber: 100 };
    for (const question of [
      { case: 'fileByFilename', value: '../package.json' },
      { case: 'fileContainingSymbol', value: 'naru.v1.Nope' },
      { case: 'fileContainingExtension', value: extension },
      { case: 'allExtensionNumbersOfType', value: 'naru.v1.Nope' },
    ] as const) {
      const answer = await reflection.ask({ messageRequest: question });
      const refused = { case: 'errorResponse', value: { errorCode: status.NOT_FOUND } };
      expect(answer?.messageResponse).toMatchObject(refused);
    }
    const none = await reflection.ask({
      messageRequest: { case: 'allExtensionNumbersOfType', value: 'naru.v1.Topic' },
    });
    expect(none?.messageResponse).toMatchObject({ value: { baseTypeName: 'naru.v1.Topic', extensionNumber: [] } });
    reflection.finish();
  });
});
