/** A schema registry in memory, as far as serdes need one: behind `fetch`, or on a port of its own. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

interface Registered {
  readonly schema: string;
  readonly schemaType?: string | undefined;
  readonly references?: readonly unknown[] | undefined;
}
interface Answer {
  readonly status: number;
  readonly body: unknown;
}

export class FakeSchemaRegistry {
  readonly #schemas: Registered[] = [];
  /** Ids by version − 1. */
  readonly #subjects = new Map<string, number[]>();
  /** Every request, such as `GET /schemas/ids/1`. */
  readonly requests: string[] = [];
  /** Answers that go out instead of the real ones, first come first served. */
  readonly instead: (Answer | Error)[] = [];
  /** What has to happen before an answer goes out. */
  hold: Promise<void> = Promise.resolve();

  /** In the place of the platform's. */
  readonly fetch = (async (url: string, { method = 'GET', body }: { method?: string; body?: string } = {}) => {
    const { pathname } = new URL(url);
    const answer = this.#answer(method, pathname, body === undefined ? undefined : (JSON.parse(body) as Registered));
    await this.hold;
    if (answer instanceof Error) throw answer;
    const text = typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body);
    return new Response(text, { status: answer.status });
  }) as typeof fetch;

  /** @returns the id */
  add(subject: string, schema: Registered): number {
    const key = JSON.stringify([schema.schema, schema.schemaType ?? 'AVRO']);
    let index = this.#schemas.findIndex((known) => JSON.stringify([known.schema, known.schemaType ?? 'AVRO']) === key);
    if (index < 0) index = this.#schemas.push(schema) - 1;
    const ids = this.#subjects.get(subject) ?? [];
    if (!ids.includes(index + 1)) ids.push(index + 1);
    this.#subjects.set(subject, ids);
    return index + 1;
  }

  subjects(): string[] {
    return [...this.#subjects.keys()];
  }

  async listen(): Promise<{ url: string; close: () => Promise<void> }> {
    const server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        const body = text === '' ? undefined : (JSON.parse(text) as Registered);
        const answer = this.#answer(request.method ?? '', new URL(request.url ?? '', 'http://x').pathname, body);
        if (answer instanceof Error) return response.destroy();
        response.writeHead(answer.status, { 'content-type': 'application/vnd.schemaregistry.v1+json' });
        return response.end(JSON.stringify(answer.body));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const close = async (): Promise<void> => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    };
    return { url: `http://127.0.0.1:${port}`, close };
  }

  #answer(method: string, path: string, body: Registered | undefined): Answer | Error {
    this.requests.push(`${method} ${path}`);
    const instead = this.instead.shift();
    if (instead !== undefined) return instead;
    const [, first, second = '', third, fourth] = path.split('/').map(decodeURIComponent);
    if (first === 'schemas') return this.#schema(Number(third));
    if (first === 'config') return { status: 200, body: { compatibilityLevel: 'BACKWARD' } };
    if (first !== 'subjects') return { status: 404, body: { error_code: 404, message: 'HTTP 404 Not Found' } };
    if (method === 'POST' && body !== undefined) {
      if (third === 'versions') return { status: 200, body: { id: this.add(second, body) } };
      return this.#lookUp(second, body);
    }
    return this.#version(second, fourth ?? '');
  }

  #schema(id: number): Answer {
    const schema = this.#schemas[id - 1];
    if (schema !== undefined) return { status: 200, body: schema };
    return { status: 404, body: { error_code: 40403, message: `Schema ${id} not found` } };
  }

  #lookUp(subject: string, body: Registered): Answer {
    const id = this.#schemas.findIndex(({ schema }) => schema === body.schema) + 1;
    if (this.#subjects.get(subject)?.includes(id) === true) return { status: 200, body: { subject, id } };
    return { status: 404, body: { error_code: 40403, message: 'Schema not found' } };
  }

  #version(subject: string, version: string): Answer {
    const ids = this.#subjects.get(subject) ?? [];
    const number = version === 'latest' ? ids.length : Number(version);
    const id = ids[number - 1];
    if (id === undefined)
      return { status: 404, body: { error_code: 40401, message: `Subject '${subject}' not found.` } };
    return { status: 200, body: { subject, version: number, id, ...this.#schemas[id - 1] } };
  }
}
