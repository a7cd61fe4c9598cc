/** The broker, for running inside a process: tests of any application that speaks Naru or Kafka use it in place of a container. */
export { Broker, VERSION, type BrokerAddress, type BrokerSurroundings } from './broker.ts';
export {
  brokerConfig,
  brokerSchema,
  explainBrokerConfig,
  loadBrokerConfig,
  type BrokerConfig,
  type BrokerConfigInput,
} from './config.ts';
export { verifyDataDirectory, type DoctorFinding, type DoctorOptions, type DoctorReport } from './doctor.ts';
export { pinoLogger, type PinoLoggerOptions } from './pino-logger.ts';
export { SimulatedBroker, type SimulatedSurroundings } from './simulated-broker.ts';
export { simulatedMetadata } from './storage.ts';
export { checkTopicConfig } from './check-topic-config.ts';
export type * from './log/log-store.ts';
