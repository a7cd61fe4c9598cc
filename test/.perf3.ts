import { Broker } from '@naru/broker';
import { connect, serdes } from '@naru/client';
import { Worker, isMainThread, parentPort } from 'node:worker_threads';
import { randomBytes } from 'node:crypto';
if (!isMainThread) {
  const broker = await Broker.start({ storage: 'memory', port: 0 } as never);
  parentPort!.postMessage(broker.address);
} else {
  const w = new Worker(new URL(import.meta.url));
  const address: any = await new Promise((r) => w.once('message', r));
  const naru = await connect({ brokers: [`${address.host}:${address.port}`] });
  await naru.admin.createTopic('t', { partitions: 6 });
  const value = randomBytes(1024); const n = 300_000;
  for (let i = 0; i < n; i++) { while (!naru.enqueue('t', value, { key: `k${i % 1000}`, serde: serdes.bytes as never })) await naru.ready(); }
  await naru.flush();
  for (let round = 0; round < 3; round++) {
    let m = 0; const t = performance.now(); let last = t; const gaps: string[] = [];
    for await (const b of naru.poll({ topics: ['t'], serde: serdes.bytes as never })) {
      const now = performance.now(); if (now - last > 100) gaps.push(`${m}@${(now - t).toFixed(0)}:+${(now - last).toFixed(0)}`); last = now;
      m += b.events.length; if (m >= n) break; }
    const s = (performance.now() - t) / 1000; console.log(`poll ${m} ${(m / s / 1000).toFixed(0)}k/s gaps`, gaps.join(' '));
  }
  await naru.close(); process.exit(0);
}
