/** What curl and a browser get: plain pages, and the services as JSON over HTTP/1.1. */
import { connect } from 'node:http2';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { Broker } from '@naru/broker';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { INTERNAL_TOPICS } from '../../runtime/internal-topics.ts';

let broker: Broker;

beforeEach(async () => {
  broker = await Broker.start({ storage: 'memory', port: 0 });
});

afterEach(() => broker.close());

function get(path: string, init: RequestInit = {}): Promise<Response> {
  return fetch(`http://${broker.bootstrap}${path}`, init);
}

async function call(method: string, body: unknown): Promise<{ status: number; body: unknown }> {
  const headers = { 'content-type': 'application/json' };
  const response = await get(`/naru.v1.${method}`, { method: 'POST', headers, body: JSON.stringify(body) });
  return { status: response.status, body: await response.json() };
}

describe('the pages', () => {
  it.each([
    ['/healthz', 'ok\n'],
    ['/readyz', 'ready\n'],
    ['/healthz?verbose', 'ok\n'],
  ])('%s says %j', async (path, text) => {
    const response = await get(path);
    expect(response.status).toBe(200);
    expect(response.headers.get('cache-control')).toBe('no-store');
    expect(await response.text()).toBe(text);
    expect(await (await get(path, { method: 'HEAD' })).text()).toBe('');
  });

  it('/metrics speaks the format of Prometheus', async () => {
    await call('AdminService/CreateTopic', { name: 'orders', partitionCount: 3 });
    await call('PublisherService/Publish', { topic: 'orders', records: [{ value: 'aGk=' }] });
    const response = await get('/metrics');
    expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
    const page = await response.text();
    expect(page).toMatch(/^# TYPE naru_log_appends_total counter$/m);
    expect(page).toMatch(/^naru_log_appends_total [1-9]/m);
    const own = Object.values(INTERNAL_TOPICS).reduce((sum, { partitionCount }) => sum + partitionCount, 0);
    expect(page).toContain(`\nnaru_partitions ${own + 3}\n`);
    expect(page).toMatch(/^naru_process_cpu_seconds_total /m);
    for (const line of page.trim().split('\n')) expect(line).toMatch(/^($|#|[a-z_0-9]+(\{.*\})? \S+$)/);
  });

  it('do not exist elsewhere, nor for other methods', async () => {
    expect((await get('/nope')).status).toBe(404);
    expect((await get('/healthz', { method: 'POST' })).status).toBe(404);
    expect((await get('/naru.v1.AdminService/ListTopics')).status).not.toBe(200);
  });

  it('are served over HTTP/2 too', async () => {
    const session = connect(`http://${broker.bootstrap}`);
    const stream = session.request({ ':path': '/healthz' });
    let text = '';
    stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
    await new Promise((resolve) => stream.on('end', resolve));
    session.close();
    expect(text).toBe('ok\n');
  });
});

describe('the services over HTTP/1.1', () => {
  it('create a topic, publish and describe as JSON', async () => {
    const created = await call('AdminService/CreateTopic', { name: 'orders', partitionCount: 1 });
    expect(created).toMatchObject({
      status: 200,
      body: { topic: { name: 'orders', partitionCount: 1, type: 'TOPIC_TYPE_ORDERED' } },
    });
    const value = Buffer.from('{"id":1}').toString('base64');
    const published = await call('PublisherService/Publish', {
      topic: 'orders',
      records: [{ key: 'YQ==', value }, { value }],
    });
    expect(published).toMatchObject({
      status: 200,
      body: { results: [{ requestId: expect.any(String) }, { offset: '1' }] },
    });
    const described = await call('AdminService/DescribeTopic', { name: 'orders' });
    expect(described.body).toMatchObject({ partitions: [{ highWatermark: '2' }] });
  });

  it.each([
    ['gzip', gzipSync],
    ['br', brotliCompressSync],
  ])('understand requests that are compressed with %s', async (encoding, compress) => {
    const headers = { 'content-type': 'application/json', 'content-encoding': encoding };
    const body = compress(JSON.stringify({ name: 'orders', partitionCount: 2 }));
    const response = await get('/naru.v1.AdminService/CreateTopic', { method: 'POST', headers, body });
    expect(await response.json()).toMatchObject({ topic: { name: 'orders', partitionCount: 2 } });
    const torn = await get('/naru.v1.AdminService/CreateTopic', { method: 'POST', headers, body: body.subarray(4) });
    expect(torn.status).toBe(400);
  });

  it('say what went wrong, with the code of the table', async () => {
    const { status, body } = await call('PublisherService/Publish', { topic: 'nope', records: [{ value: '' }] });
    expect(status).toBe(404);
    expect(body).toMatchObject({ code: 'not_found', message: 'there is no topic "nope"' });
    expect(body).toMatchObject({ details: [{ type: 'naru.v1.Error' }] });
  });
});
