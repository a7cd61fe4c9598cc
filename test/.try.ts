import { Broker } from '@naru/broker';
import { connect } from '@naru/client';
const broker = await Broker.start({ storage: 'memory', port: 0 } as never);
console.log(broker.address);
const naru = await connect({ brokers: [`${broker.address.host}:${broker.address.port}`] });
console.log(await naru.admin.describeCluster());
console.log(await naru.admin.createTopic('orders', { partitions: 3 }));
const r = await naru.publish('orders', { a: 1 }, { key: 'k' });
console.log(JSON.stringify(r));
await Promise.all(Array.from({ length: 1000 }, (_, i) => naru.publish('orders', { i }, { key: `k${i % 10}` })));
const sub = naru.subscriber('g');
let n = 0;
const stop = new AbortController();
sub.handle('orders', (e) => { n++; if (n === 1001) stop.abort(); });
await sub.run({ concurrency: 8, signal: stop.signal });
console.log('handled', n, (await naru.admin.describeGroup('g')).offsets.map((o) => [o.partition, o.committedOffset, o.lag]));
let m = 0;
for await (const batch of naru.poll({ group: 'audit', topics: ['orders'] })) { m += batch.events.length; await batch.commit(); if (m === 1001) break; }
console.log('polled', m, (await naru.admin.describeGroup('audit')).offsets.map((o) => [o.partition, o.committedOffset, o.lag]));
m = 0;
for await (const batch of naru.poll({ topics: ['orders'], idleTimeoutMs: 100 })) { m += batch.events.length; }
console.log('read', m);
try { await naru.publish('nope', 1); } catch (e) { console.log(String(e)); }
await naru.close();
await broker.close();
console.log('closed');
