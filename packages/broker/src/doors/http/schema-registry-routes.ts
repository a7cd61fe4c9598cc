/** Endpoints of Confluent's Schema Registry: what each asks the registry, and how it shows the answer. */
import {
  isSchemaRefusal,
  type SchemaCommandOf,
  type SchemaCommandType,
  type SchemaContent,
  type SchemaReplies,
  type Scope,
  type VersionView,
} from '../../core/schema-registry/index.ts';
import { isRefusal } from '../../runtime/commands.ts';
import type { SchemaService } from '../../service/schemas.ts';
import { refusedByBroker, refusedBySchemas, unprocessable } from './schema-registry-errors.ts';
import { flag, page, readId, readLevel, readMode, readSchema, readVersion } from './schema-registry-request.ts';

/** Of all texts in one list. */
const MAX_LISTED_LENGTH = 16 * 1024 * 1024;

export interface RegistryRequest {
  /** Segments of the path that the route leaves open, decoded. */
  readonly parameters: readonly string[];
  readonly query: URLSearchParams;
  readonly body: string;
}

/** Shown as it is, instead of as JSON. */
export class PlainText {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

export interface Route {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Segments; `*` is one that is open. */
  readonly path: string;
  readonly answer: (request: RegistryRequest) => Promise<unknown>;
}

export function schemaRegistryRoutes(service: SchemaService): Route[] {
  const ask = async <T extends SchemaCommandType>(command: SchemaCommandOf<T>): Promise<SchemaReplies[T]> => {
    const reply: unknown = await service.ask(command);
    if (isSchemaRefusal(reply)) throw refusedBySchemas(reply);
    if (isRefusal(reply)) throw refusedByBroker(reply);
    return reply as SchemaReplies[T];
  };
  return [...schemaRoutes(ask), ...subjectRoutes(ask), ...compatibilityRoutes(ask), ...settingRoutes(ask)];
}

type Ask = <T extends SchemaCommandType>(command: SchemaCommandOf<T>) => Promise<SchemaReplies[T]>;

function schemaRoutes(ask: Ask): Route[] {
  const byId = ({ parameters, query }: RegistryRequest): Promise<SchemaReplies['get-schema']> => {
    refuseFormat(query);
    return ask({ type: 'get-schema', id: readId(parameters[0] as string) });
  };
  const usesOf = ({ parameters, query }: RegistryRequest): Promise<SchemaReplies['list-uses']> =>
    ask({ type: 'list-uses', id: readId(parameters[0] as string), deleted: flag(query, 'deleted') });
  return [
    { method: 'GET', path: 'schemas/types', answer: () => Promise.resolve(['JSON', 'PROTOBUF', 'AVRO']) },
    {
      method: 'GET',
      path: 'schemas',
      answer: async ({ query }) => {
        const prefix = query.get('subjectPrefix') ?? '';
        const filter = { deleted: flag(query, 'deleted'), latestOnly: flag(query, 'latestOnly') };
        const listed = page(await ask({ type: 'list-schemas', prefix, ...filter }), query);
        if (listed.reduce((sum, { text }) => sum + text.length, 0) > MAX_LISTED_LENGTH)
          throw unprocessable(`the schemas are larger than ${MAX_LISTED_LENGTH} characters: use offset and limit`);
        return listed.map(versionJson);
      },
    },
    {
      method: 'GET',
      path: 'schemas/ids/*',
      answer: async (request) => {
        const { maxId, ...content } = await byId(request);
        return { ...contentJson(content), ...(flag(request.query, 'fetchMaxId') ? { maxId } : {}) };
      },
    },
    {
      method: 'GET',
      path: 'schemas/ids/*/schema',
      answer: async (request) => new PlainText((await byId(request)).text),
    },
    {
      method: 'GET',
      path: 'schemas/ids/*/subjects',
      answer: async (request) =>
        page([...new Set((await usesOf(request)).map(({ subject }) => subject))], request.query),
    },
    {
      method: 'GET',
      path: 'schemas/ids/*/versions',
      answer: async (request) => page(await usesOf(request), request.query),
    },
  ];
}

function subjectRoutes(ask: Ask): Route[] {
  const versionOf = ({ parameters, query }: RegistryRequest): Promise<VersionView> => {
    refuseFormat(query);
    const [subject = '', version = ''] = parameters;
    return ask({ type: 'get-version', subject, version: readVersion(version), deleted: flag(query, 'deleted') });
  };
  return [
    {
      method: 'GET',
      path: 'subjects',
      answer: async ({ query }) => {
        const prefix = query.get('subjectPrefix') ?? '';
        const filter = { deleted: flag(query, 'deleted'), deletedOnly: flag(query, 'deletedOnly') };
        return page(await ask({ type: 'list-subjects', prefix, ...filter }), query);
      },
    },
    {
      method: 'POST',
      path: 'subjects/*',
      answer: async ({ parameters: [subject = ''], query, body }) => {
        const { schema } = readSchema(body, query);
        return versionJson(await ask({ type: 'lookup', subject, schema, deleted: flag(query, 'deleted') }));
      },
    },
    {
      method: 'DELETE',
      path: 'subjects/*',
      answer: ({ parameters: [subject = ''], query }) =>
        ask({ type: 'delete-subject', subject, permanent: flag(query, 'permanent') }),
    },
    {
      method: 'GET',
      path: 'subjects/*/versions',
      answer: async ({ parameters: [subject = ''], query }) => {
        const filter = { deleted: flag(query, 'deleted'), deletedOnly: flag(query, 'deletedOnly') };
        return page(await ask({ type: 'list-versions', subject, ...filter }), query);
      },
    },
    {
      method: 'POST',
      path: 'subjects/*/versions',
      answer: ({ parameters: [subject = ''], query, body }) =>
        ask({ type: 'register', subject, ...readSchema(body, query) }),
    },
    { method: 'GET', path: 'subjects/*/versions/*', answer: async (request) => versionJson(await versionOf(request)) },
    {
      method: 'GET',
      path: 'subjects/*/versions/*/schema',
      answer: async (request) => new PlainText((await versionOf(request)).text),
    },
    {
      method: 'GET',
      path: 'subjects/*/versions/*/referencedby',
      answer: ({ parameters: [subject = '', version = ''] }) =>
        ask({ type: 'referenced-by', subject, version: readVersion(version) }),
    },
    {
      method: 'DELETE',
      path: 'subjects/*/versions/*',
      answer: ({ parameters: [subject = '', version = ''], query }) =>
        ask({ type: 'delete-version', subject, version: readVersion(version), permanent: flag(query, 'permanent') }),
    },
  ];
}

function compatibilityRoutes(ask: Ask): Route[] {
  const check = async ({ parameters, query, body }: RegistryRequest): Promise<unknown> => {
    const [subject = '', version] = parameters;
    const selected = version === undefined ? null : readVersion(version);
    const { schema } = readSchema(body, query);
    const { isCompatible, messages } = await ask({ type: 'check', subject, schema, version: selected });
    return { is_compatible: isCompatible, ...(flag(query, 'verbose') ? { messages } : {}) };
  };
  return [
    { method: 'POST', path: 'compatibility/subjects/*/versions', answer: check },
    { method: 'POST', path: 'compatibility/subjects/*/versions/*', answer: check },
  ];
}

function settingRoutes(ask: Ask): Route[] {
  const scopeOf = ({ parameters }: RegistryRequest): Scope => parameters[0] ?? null;
  return ['config', 'config/*'].flatMap((config): Route[] => {
    const mode = config.replace('config', 'mode');
    return [
      {
        method: 'GET',
        path: config,
        answer: async (request) => {
          const defaultToGlobal = flag(request.query, 'defaultToGlobal');
          return {
            compatibilityLevel: await ask({ type: 'get-compatibility', scope: scopeOf(request), defaultToGlobal }),
          };
        },
      },
      {
        method: 'PUT',
        path: config,
        answer: async (request) => {
          const level = readLevel(request.body);
          return { compatibility: await ask({ type: 'set-compatibility', scope: scopeOf(request), level }) };
        },
      },
      {
        method: 'DELETE',
        path: config,
        answer: async (request) => ({
          compatibilityLevel: await ask({ type: 'delete-compatibility', scope: scopeOf(request) }),
        }),
      },
      {
        method: 'GET',
        path: mode,
        answer: async (request) => {
          const defaultToGlobal = flag(request.query, 'defaultToGlobal');
          return { mode: await ask({ type: 'get-mode', scope: scopeOf(request), defaultToGlobal }) };
        },
      },
      {
        method: 'PUT',
        path: mode,
        answer: async (request) => {
          const force = flag(request.query, 'force');
          return {
            mode: await ask({ type: 'set-mode', scope: scopeOf(request), mode: readMode(request.body), force }),
          };
        },
      },
      {
        method: 'DELETE',
        path: mode,
        answer: async (request) => ({ mode: await ask({ type: 'delete-mode', scope: scopeOf(request) }) }),
      },
    ];
  });
}

function contentJson({ type, text, references }: SchemaContent): Record<string, unknown> {
  return {
    ...(type === 'AVRO' ? {} : { schemaType: type }),
    schema: text,
    ...(references.length === 0 ? {} : { references }),
  };
}

function versionJson(view: VersionView): Record<string, unknown> {
  const { subject, version, id } = view;
  return { subject, version, id, ...contentJson(view) };
}

/** Only the text as it is kept is there. */
function refuseFormat(query: URLSearchParams): void {
  const format = query.get('format') ?? '';
  if (format !== '') throw unprocessable(`format '${format}' is not supported`);
}
