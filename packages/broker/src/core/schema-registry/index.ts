/** The schema registry: a pure state machine. */
export * from './commands.ts';
export { decideSchemas, type SchemaDecision } from './decide.ts';
export {
  evolveRegistry,
  newRegistryState,
  registryRecords,
  type RegistryState,
  type SchemaRecord,
} from './registry-state.ts';
export { decodeSchemaRecord, encodeSchemaRecord, type EncodedSchemaRecord } from './schema-record-codec.ts';
export { isSchemaRefusal, refuseSchema, type SchemaRefusal, type SchemaRefusalReason } from './schema-refusal.ts';
