/** The schema registry's REST API as such: paths, content types, sizes, errors, both versions of HTTP, every storage. */
import { mkdtemp, rm } from 'node:fs/promises';
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { connect } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Broker } from '@naru/broker';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const TYPE = 'application/vnd.schemaregistry.v1+json';

let broker: Broker;

beforeEach(async () => {
  broker = await Broker.start({ storage: 'memory', port: 0 });
});

afterEach(() => broker.close());

async function call(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
  const content = body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) };
  const sent = body === undefined ? headers : { 'content-type': TYPE, ...headers };
  const response = await fetch(`http://${broker.bootstrap}${path}`, { method, headers: sent, ...content });
  const text = await response.text();
  return { status: response.status, type: response.headers.get('content-type'), body: JSON.parse(text) as unknown };
}

const AVRO = { schema: '"string"' };
const error = (errorCode: number, message: string | RegExp): unknown => ({
  error_code: errorCode,
  message: typeof message === 'string' ? message : expect.stringMatching(message),
});

describe('requests', () => {
  it.each([
    ['GET', '/subjects/a/version', undefined, 404, error(404, 'HTTP 404 Not Found')],
    ['GET', '/schemas/ids/x', undefined, 404, error(404, 'HTTP 404 Not Found')],
    ['PUT', '/subjects', {}, 405, error(405, 'HTTP 405 Method Not Allowed')],
    ['GET', '/subjects/%E0%A4%A/versions', undefined, 400, error(400, /not a well-formed part of a path/)],
    ['GET', '/contexts/.a/subjects', undefined, 404, error(404, /^Contexts are not supported/)],
    ['GET', '/subjects/:.a:b/versions', undefined, 422, error(42208, /contexts .* are not supported/)],
    ['POST', '/subjects/a/versions', '{"schema": ', 400, error(400, /^The body is not JSON/)],
    ['POST', '/subjects/a/versions', '[]', 400, error(400, 'The body is a JSON object')],
    ['POST', '/subjects/a/versions', {}, 422, error(42201, 'Empty schema')],
    ['POST', '/subjects/a/versions', { schema: {} }, 422, error(422, /^"schema" is text/)],
    ['POST', '/subjects/a/versions', { ...AVRO, scheme: 1 }, 422, error(422, 'Unrecognized field: scheme')],
    ['POST', '/subjects/a/versions', { ...AVRO, ruleSet: {} }, 422, error(422, '"ruleSet" is not supported')],
    [
      'POST',
      '/subjects/a/versions',
      { ...AVRO, schemaType: 'XML' },
      422,
      error(42201, 'Invalid schema type "XML": known are AVRO, JSON, PROTOBUF'),
    ],
    [
      'POST',
      '/subjects/a/versions',
      { ...AVRO, references: [{ name: 'b' }] },
      422,
      error(422, 'a reference has "name", "subject" and "version"'),
    ],
    ['POST', '/subjects/a/versions', { ...AVRO, id: 1.5 }, 422, error(422, /^"id" is a whole number/)],
    [
      'POST',
      '/subjects/a/versions',
      { schema: '"x"', references: [{ name: 'x', subject: 'y', version: 3 }] },
      422,
      error(42201, /No schema reference found for subject "y" and version 3$/),
    ],
    ['POST', '/subjects/a/versions', { ...AVRO, id: 5 }, 422, error(42205, 'Subject a is not in import mode')],
    [
      'POST',
      '/compatibility/subjects/a/versions/0',
      AVRO,
      422,
      error(42202, /^The specified version '0' is not a valid version id/),
    ],
    ['POST', '/compatibility/subjects/a/versions/1', AVRO, 404, error(40401, "Subject 'a' not found.")],
    ['GET', '/subjects/a/versions/1?format=resolved', undefined, 422, error(422, "format 'resolved' is not supported")],
    ['GET', '/subjects?limit=x', undefined, 422, error(422, 'offset and limit are whole numbers')],
    [
      'PUT',
      '/config',
      { compatibility: 'FULL', normalize: true },
      422,
      error(422, '"normalize" is not supported, only "compatibility" is'),
    ],
    [
      'PUT',
      '/mode/a',
      { mode: 'READING' },
      422,
      error(42204, 'Invalid mode. Valid values are READWRITE, READONLY, IMPORT'),
    ],
    [
      'GET',
      '/config/a',
      undefined,
      404,
      error(40408, "Subject 'a' does not have subject-level compatibility configured"),
    ],
    ['GET', '/mode/a', undefined, 404, error(40409, "Subject 'a' does not have subject-level mode configured")],
    ['DELETE', '/subjects/a', undefined, 404, error(40401, "Subject 'a' not found.")],
  ])('%s %s %j is refused', async (method, path, body, status, expected) => {
    expect(await call(method, path, body)).toMatchObject({ status, type: TYPE, body: expected });
  });

  it('answer plain JSON to those who ask for that', async () => {
    const accept = 'application/json';
    expect(await call('GET', '/subjects', undefined, { accept })).toEqual({ status: 200, type: accept, body: [] });
    expect((await call('GET', '/subjects', undefined, { accept: `${TYPE}, ${accept}` })).type).toBe(TYPE);
  });

  it('take JSON only, as no form of a web page sends it', async () => {
    for (const type of ['application/json', 'application/json; charset=utf-8', 'application/octet-stream'])
      expect(await call('POST', '/subjects/a/versions', AVRO, { 'content-type': type })).toMatchObject({ status: 200 });
    for (const type of ['text/plain', 'application/x-www-form-urlencoded'])
      expect(await call('POST', '/subjects/a/versions', AVRO, { 'content-type': type })).toMatchObject({ status: 415 });
  });

  it('are bounded', async () => {
    // Just as much as makes it too large: an answer may be lost on a connection that is closed under what is still sent.
    const sent = httpRequest(`http://${broker.bootstrap}/subjects/a/versions`, {
      method: 'POST',
      headers: { 'content-type': TYPE, 'content-length': 8 * 1024 * 1024 },
    });
    sent.on('error', () => {});
    sent.write(Buffer.alloc(4 * 1024 * 1024 + 1, ' '));
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    expect([response.statusCode, response.headers.connection]).toEqual([413, 'close']);
    sent.destroy();
    const long = JSON.stringify({ type: 'record', name: 'R', fields: [], doc: '"'.repeat(800_000) });
    expect(await call('POST', '/subjects/a/versions', { schema: long })).toMatchObject({
      status: 422,
      body: error(42201, /it has \d+ characters, at most 1048576 are allowed$/),
    });
    expect((await call('GET', '/subjects')).body).toEqual([]);
  });

  it('know subjects by any name, and pages of lists', async () => {
    const subjects = ['a b', 'a/b', 'ä', 'x?y=1'];
    for (const subject of subjects)
      expect((await call('POST', `/subjects/${encodeURIComponent(subject)}/versions`, AVRO)).status).toBe(200);
    expect((await call('GET', '/subjects')).body).toEqual(['a b', 'a/b', 'x?y=1', 'ä']);
    expect((await call('GET', '/subjects?offset=1&limit=2')).body).toEqual(['a/b', 'x?y=1']);
    expect((await call('GET', '/subjects?subjectPrefix=a')).body).toEqual(['a b', 'a/b']);
    expect((await call('GET', '/schemas/ids/1/subjects?limit=1')).body).toEqual(['a b']);
    expect((await call('GET', '/schemas/ids/1?fetchMaxId=true')).body).toEqual({ schema: '"string"', maxId: 1 });
    expect((await call('GET', '/schemas?latestOnly=true&subjectPrefix=x')).body).toEqual([
      { subject: 'x?y=1', version: 1, id: 1, schema: '"string"' },
    ]);
  });

  it('work over HTTP/2', async () => {
    const session = connect(`http://${broker.bootstrap}`);
    const stream = session.request({ ':method': 'POST', ':path': '/subjects/a/versions', 'content-type': TYPE });
    stream.end(JSON.stringify(AVRO));
    let text = '';
    stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
    await new Promise((resolve) => stream.on('end', resolve));
    session.close();
    expect(text).toBe('{"id":1}');
  });

  it('of many clients at once give one id', async () => {
    const schema = (n: number) => ({ schema: JSON.stringify({ type: 'fixed', name: `F${n % 5}`, size: 1 }) });
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, n) => call('POST', `/subjects/s${n % 7}-${n % 5}/versions`, schema(n))),
    );
    const ids = answers.map(({ body }) => (body as { id: number }).id);
    ids.forEach((id, n) => expect(id).toBe(ids[n % 5]));
    expect([...new Set(ids)].sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5]);
  });
});

/** Nearly as large as may be, and larger where it is stored: every quote is escaped there. */
const LARGE = JSON.stringify({ type: 'record', name: 'Large', doc: '"'.repeat(520_000), fields: [] });

describe.each(['file', 'sqlite'] as const)('with storage %s', (storage) => {
  it('schemas are there after a restart', async () => {
    const data = await mkdtemp(join(tmpdir(), 'naru-schemas-'));
    const first = broker;
    try {
      broker = await Broker.start({ storage, data, port: 0 });
      await call('POST', '/subjects/a/versions', AVRO);
      await call('PUT', '/config/a', { compatibility: 'NONE' });
      await call('POST', '/subjects/a/versions', { schema: '"int"' });
      await call('DELETE', '/subjects/a/versions/1');
      expect((await call('POST', '/subjects/large/versions', { schema: LARGE })).body).toEqual({ id: 3 });
      for (let round = 0; round < 2; round++) {
        await broker.close();
        broker = await Broker.start({ storage, data, port: 0 });
        expect((await call('GET', '/schemas?deleted=true')).body).toMatchObject([
          { version: 1 },
          { version: 2, id: 2 },
          { subject: 'large', schema: LARGE },
        ]);
        expect((await call('GET', '/subjects/a/versions')).body).toEqual([2]);
        expect((await call('GET', '/config/a')).body).toEqual({ compatibilityLevel: 'NONE' });
      }
      await broker.close();
    } finally {
      broker = first;
      await rm(data, { recursive: true });
    }
  });
});
