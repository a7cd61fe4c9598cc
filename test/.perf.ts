import { Broker } from '@naru/broker';
import { connect, serdes } from '@naru/client';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { randomBytes } from 'node:crypto';
if (!isMainThread) {
  const broker = await Broker.start({ storage: 'memory', port: 0 } as never);
  parentPort!.postMessage(broker.address);
} else {
  const w = new Worker(new URL(import.meta.url));
  const address: any = await new Promise((r) => w.once('message', r));
  const naru = await connect({ brokers: [`${address.host}:${address.port}`], publisher: { batchBytes: process.env.BATCH ?? '64KiB' } });
  await naru.admin.createTopic('t', { partitions: 6 });
  const value = randomBytes(1024);
  for (let round = 0; round < 4; round++) {
    const n = 200_000; let failed = 0;
    const off = naru.onDelivery((d) => { if (!d.ok) failed++; });
    const cpu = process.threadCpuUsage(); const t = performance.now();
    for (let i = 0; i < n; i++) { while (!naru.enqueue('t', value, { key: `k${i % 1000}`, serde: serdes.bytes as never })) await naru.ready(); }
    await naru.flush();
    const s = (performance.now() - t) / 1000; const c = process.threadCpuUsage(cpu);
    console.log(`enqueue ${(n / s / 1000).toFixed(0)}k/s  ${(n * 1024 / s / 1e6).toFixed(0)} MB/s thread cpu ${((c.user + c.system) / 1e6 / s).toFixed(2)} → ${(n / ((c.user + c.system) / 1e6) / 1000).toFixed(0)}k per cpu-s, failed ${failed}`);
    off();
  }
  for (let round = 0; round < 2; round++) {
    const n = 100_000; const t = performance.now();
    for (let i = 0; i < n; i += 10000) await Promise.all(Array.from({ length: 10000 }, (_, j) => naru.publish('t', value, { key: `k${j % 1000}`, serde: serdes.bytes as never })));
    const s = (performance.now() - t) / 1000;
    console.log(`publish in 10000s ${(n / s / 1000).toFixed(0)}k/s`);
  }
  const lat: number[] = [];
  for (let i = 0; i < 2000; i++) { const t = performance.now(); await naru.publish('t', { i }, { key: 'a' }); lat.push(performance.now() - t); }
  lat.sort((a, b) => a - b); console.log('await publish p50', lat[1000]!.toFixed(3), 'p99', lat[1980]!.toFixed(3));
  {
    let m = 0; const t = performance.now();
    for await (const b of naru.poll({ topics: ['t'], idleTimeoutMs: 300, serde: serdes.bytes as never })) { m += b.events.length; if (m >= 1_002_000) break; }
    const s = (performance.now() - t) / 1000; console.log(`poll ${m} ${(m / s / 1000).toFixed(0)}k/s`);
  }
  {
    let m = 0; const t = performance.now(); const stop = new AbortController();
    const sub = naru.subscriber('g', { serde: serdes.bytes as never });
    sub.handle('t', () => { if (++m === 1_002_000) stop.abort(); });
    await sub.run({ concurrency: 16, signal: stop.signal });
    const s = (performance.now() - t) / 1000; console.log(`handle ${m} ${(m / s / 1000).toFixed(0)}k/s`);
  }
  await naru.close(); process.exit(0);
}
