/** `@naru/protocol`: errors, names, request ids and the partitioner. Batches and messages have their own entries. */
export * from './errors.ts';
export * from './key-id.ts';
export * from './murmur2.ts';
export * from './names.ts';
export * from './request-id.ts';
