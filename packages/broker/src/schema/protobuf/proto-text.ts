/** .proto files as text: without comments and blanks, which do not make another schema. */

/** One token at a time, each in time that grows with its length alone: nothing is looked for in vain again and again. */
const WORD = /[A-Za-z0-9_]+/y;
const BLANKS = /\s+/y;

/** Tokens, comments left out. What is not closed goes to the end of the text, or of the line for strings. */
export function protoTokens(text: string, limit = Infinity): string[] {
  const tokens: string[] = [];
  let at = 0;
  while (at < text.length && tokens.length < limit) {
    const end = endOf(text, at);
    const isComment = text[at] === '/' && (text[at + 1] === '/' || text[at + 1] === '*');
    if (!isComment && !/^\s/.test(text[at] as string)) tokens.push(text.slice(at, end));
    at = end;
  }
  return tokens;
}

function endOf(text: string, at: number): number {
  const first = text[at] as string;
  if (first === '"' || first === "'") return endOfString(text, at, first);
  if (first === '/' && text[at + 1] === '/') return found(text.indexOf('\n', at), text);
  if (first === '/' && text[at + 1] === '*') return Math.min(text.length, found(text.indexOf('*/', at + 2), text) + 2);
  for (const pattern of [BLANKS, WORD]) {
    pattern.lastIndex = at;
    if (pattern.test(text)) return pattern.lastIndex;
  }
  return at + 1;
}

function endOfString(text: string, at: number, quote: string): number {
  for (let i = at + 1; i < text.length; i++) {
    if (text[i] === '\\') i += 1;
    else if (text[i] === quote) return i + 1;
    else if (text[i] === '\n') return i;
  }
  return text.length;
}

function found(index: number, text: string): number {
  return index < 0 ? text.length : index;
}

/** Equal for files that differ in comments, blanks and quotes alone. */
export function protoIdentity(text: string): string {
  const tokens = protoTokens(text).map((token) =>
    token.startsWith("'") && !token.includes('"') ? `"${token.slice(1, -1)}"` : token,
  );
  return tokens.join(' ');
}

/** What the file says it is; proto2 when it does not. */
export function protoSyntax(text: string): { readonly keyword: string; readonly value: string } {
  const [keyword = '', equals, value = ''] = protoTokens(text, 3);
  if ((keyword !== 'syntax' && keyword !== 'edition') || equals !== '=') return { keyword: 'syntax', value: 'proto2' };
  return { keyword, value: value.slice(1, -1) };
}
