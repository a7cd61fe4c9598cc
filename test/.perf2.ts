import { serdes, Naru, settingsSchema } from '@naru/client';
import { create } from '@bufbuild/protobuf';
import { DescribeTopicResponseSchema, PublishStreamResponseSchema } from '@naru/protocol/proto';
import { OutboundQueue } from '../packages/client/src/transport/outbound-queue.ts';
import { randomBytes } from 'node:crypto';
const transport: any = {
  openPublishStream() {
    const q = new OutboundQueue<any>(() => {});
    let pend: any[] = [];
    const s: any = { backlog: 0, onDrain: null, end() {}, abort() { q.end(); },
      send(m: any) {
        if (m.message.case === 'open') q.push(create(PublishStreamResponseSchema, { message: { case: 'opened', value: { producerId: 1n, maxBatchBytes: 1 << 20, maxInFlightBytes: 8 << 20 } } }));
        else { s.backlog++; pend.push(m.message.value.correlationId); if (pend.length === 1) setImmediate(() => { const acks = pend.map((correlationId) => ({ correlationId, baseOffset: 0n })); pend = []; s.backlog = 0; q.push(create(PublishStreamResponseSchema, { message: { case: 'acks', value: { acks } } })); s.onDrain?.(); }); }
      },
      [Symbol.asyncIterator]: () => q };
    return s;
  },
  call: async () => create(DescribeTopicResponseSchema, { topic: { topicId: new Uint8Array(16), partitionCount: 6 } }),
  close: async () => {},
};
const naru = new Naru(settingsSchema.parse({}), transport);
await naru.publish('t', 1);
const value = randomBytes(1024);
const json = { id: 'x'.repeat(100), items: Array.from({ length: 20 }, (_, i) => ({ i, name: 'item' + i })) };
for (let round = 0; round < 6; round++) {
  const n = 300_000; const t = performance.now(); const c0 = process.threadCpuUsage();
  for (let i = 0; i < n; i++) { while (!naru.enqueue('t', value, { key: `k${i % 1000}`, serde: serdes.bytes as never })) await naru.ready(); }
  await naru.flush();
  const c = process.threadCpuUsage(c0);
  console.log(`enqueue ${(n / (performance.now() - t)).toFixed(0)}k/s wall, ${(n / ((c.user + c.system) / 1e3)).toFixed(0)}k per cpu-s`);
}
for (let round = 0; round < 2; round++) {
  const n = 300_000; const c0 = process.threadCpuUsage();
  for (let i = 0; i < n; i += 10000) await Promise.all(Array.from({ length: 10000 }, (_, j) => naru.publish('t', value, { key: `k${j % 1000}`, serde: serdes.bytes as never })));
  const c = process.threadCpuUsage(c0);
  console.log(`publish ${(n / ((c.user + c.system) / 1e3)).toFixed(0)}k per cpu-s`);
}
{ const n = 100_000; const c0 = process.threadCpuUsage();
  for (let i = 0; i < n; i++) { while (!naru.enqueue('t', json, { key: `k${i % 1000}` })) await naru.ready(); }
  await naru.flush(); const c = process.threadCpuUsage(c0);
  console.log(`enqueue json ${JSON.stringify(json).length} B ${(n / ((c.user + c.system) / 1e3)).toFixed(0)}k per cpu-s`); }
await naru.close();
