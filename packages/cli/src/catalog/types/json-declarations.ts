/** TypeScript of a JSON Schema, by json-schema-to-typescript. */
import type { serdes } from '@naru/client';
import { NaruError } from '@naru/protocol';
import type { Declarations } from './catalog-types.ts';

const ROOT = 'Value';
/** Files are not looked for beside the working directory: what a schema refers to, the catalog names. */
const NOWHERE = '/schema';

type Schema = { readonly [key: string]: unknown };

export async function jsonDeclarations({ schema: text, references }: serdes.SchemaSource): Promise<Declarations> {
  const { compile } = await import('json-schema-to-typescript');
  const schema = JSON.parse(text) as Schema | boolean;
  if (typeof schema === 'boolean') return { text: '', type: 'unknown' };
  const referred = {
    order: 1,
    canRead: true,
    read: ({ url }: { readonly url: string }) => {
      const found = references.find(
        ({ name }) => url === name || decodeURI(url).endsWith(`/${name.replace(/^\.\//, '')}`),
      );
      if (found === undefined) throw new Error(`the catalog has no reference for ${url}`);
      return found.schema;
    },
  };
  try {
    const declared = await compile(named(schema), ROOT, {
      bannerComment: '',
      format: false,
      unknownAny: true,
      cwd: NOWHERE,
      $refOptions: { resolve: { file: false, http: false, catalog: referred } },
    });
    return { text: declared, type: ROOT };
  } catch (error) {
    throw new NaruError('INVALID_CONFIGURATION', `no types for a JSON Schema: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** With the root's type called as we call it, whatever its title is. */
function named(schema: Schema): Schema {
  const { $ref, $id: _id, ...rest } = schema;
  const target = typeof $ref === 'string' ? $ref : undefined;
  if (target === undefined || !target.startsWith('#/'))
    return { ...rest, ...(target === undefined ? {} : { $ref }), title: ROOT };
  let part: unknown = schema;
  for (const step of target.slice(2).split('/'))
    part = (part as Schema | undefined)?.[decodeURIComponent(step).replaceAll('~1', '/').replaceAll('~0', '~')];
  return { ...rest, ...(part as Schema), title: ROOT };
}
