/** Names of types, made of names of other things: each once. */

/** What a type cannot be called, or what would hide something that is used beside it. */
const RESERVED = new Set([
  'Record',
  'Uint8Array',
  'Array',
  'Object',
  'String',
  'Number',
  'Boolean',
  'Symbol',
  'Function',
]);

export class TypeNames {
  readonly #taken = new Set<string>();

  /** `order.placed` → `OrderPlaced`, with a number where that is taken. */
  take(from: string): string {
    const base = pascalCase(from);
    for (let count = 1; ; count++) {
      const name = count === 1 ? base : `${base}${count}`;
      if (this.#taken.has(name)) continue;
      this.#taken.add(name);
      return name;
    }
  }
}

function pascalCase(text: string): string {
  const words = text.split(/[^A-Za-z0-9]+/).filter((word) => word !== '');
  const name = words.map((word) => word[0]?.toUpperCase() + word.slice(1)).join('');
  return /^[A-Za-z]/.test(name) && !RESERVED.has(name) ? name : `Type${name}`;
}

/** A property's name as it stands in an interface. */
export function propertyName(name: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name);
}
