/** Topics through the Kafka protocol, of Naru and of Kafka alike. */
import { Kafka, logLevel } from 'kafkajs';
import type { SubjectRun } from '../subject-run.ts';

const ATTEMPTS = 100;
const PAUSE_MS = 200;
/** Kafka's controller refuses more than 10,000 records for one request. Naru adds none to an ordered topic, but makes all at once. */
const KAFKA_PARTITIONS_A_REQUEST = 5_000;
const TIMEOUT_MS = 120_000;

/** A server that has just started may not be ready yet: it is asked again. */
export async function createKafkaTopic(
  { server, subject }: SubjectRun,
  topic: string,
  partitions: number,
): Promise<void> {
  const { host, port } = server.address;
  const brokers = [`${host}:${port}`];
  const kafka = new Kafka({ clientId: 'bench', brokers, logLevel: logLevel.NOTHING, requestTimeout: TIMEOUT_MS });
  const admin = kafka.admin();
  await admin.connect();
  const atOnce = subject.server === 'kafka' ? Math.min(partitions, KAFKA_PARTITIONS_A_REQUEST) : partitions;
  try {
    await persistently(() =>
      admin.createTopics({ topics: [{ topic, numPartitions: atOnce, replicationFactor: 1 }], timeout: TIMEOUT_MS }),
    );
    for (let count = atOnce; count < partitions;) {
      count = Math.min(partitions, count + KAFKA_PARTITIONS_A_REQUEST);
      const topicPartitions = [{ topic, count }];
      await persistently(() => admin.createPartitions({ topicPartitions, timeout: TIMEOUT_MS }));
    }
  } finally {
    await admin.disconnect();
  }
}

async function persistently(ask: () => Promise<unknown>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await ask();
      return;
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
}
