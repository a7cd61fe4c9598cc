export * from './assert.ts';
export * from './clock.ts';
export * from './disk.ts';
export * from './ids.ts';
export * from './logger.ts';
export * from './quantities.ts';
export * from './random.ts';
export * from './timers.ts';
