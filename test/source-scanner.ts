/**
 * Reads out of a TypeScript or JavaScript source what the architecture rules need: which modules it imports and its
 * text without comments and literals.
 *
 * A scanner, not a parser: it knows comments, strings, templates and regular expressions, and looks for import forms in
 * what is left. TypeScript 7 offers no parser to JavaScript, and the rules need no more than this.
 */

export interface Source {
  /** Module specifiers of static, dynamic and type imports, re-exports and `require`, in order, with duplicates. */
  readonly imports: readonly ImportSite[];
  /** The source with comments, and the insides of strings, templates and regular expressions, as spaces. Same length. */
  readonly code: string;
}

export interface ImportSite {
  readonly specifier: string;
  /** 1-based. */
  readonly line: number;
}

/** A `/` after one of these ends an expression, so it divides; after anything else it begins a regular expression. */
const endsExpression = /[\w$)\]}'"`]$/;
const keywordBeforeRegExp = /\b(?:return|typeof|case|in|of|delete|void|throw|new|do|else|instanceof|await|yield)$/;
const importForm = /(?:\bfrom|\bimport|\bimport\s*\(|\brequire\s*\(|\bmodule\s*\()\s*(['"`])/g;

export function scanSource(text: string): Source {
  const code = maskLiterals(text);
  const imports: ImportSite[] = [];
  for (const match of code.matchAll(importForm)) {
    const quote = match[1] ?? "'";
    const start = match.index + match[0].length;
    const end = code.indexOf(quote, start);
    // `x.from('text')`, `import.meta` and a template with a value in it name no module.
    if (end < 0 || code[match.index - 1] === '.') continue;
    const specifier = text.slice(start, end);
    if (!specifier.includes('${')) imports.push({ specifier, line: lineAt(text, start) });
  }
  return { imports, code };
}

/** 1-based line of `index` in `text`. */
export function lineAt(text: string, index: number): number {
  let line = 1;
  for (let at = text.indexOf('\n'); at >= 0 && at < index; at = text.indexOf('\n', at + 1)) line += 1;
  return line;
}

function maskLiterals(text: string): string {
  const out = Array.from({ length: text.length }, () => ' ');
  /** For every template that is open: how many braces are open inside its current `${}`. */
  const templates: number[] = [];
  let at = 0;
  /** Code so far, its last few characters, without white space at the end: tells division from regular expression. */
  let before = '';
  const keep = (char: string): void => {
    out[at] = char;
    if (char.trim() !== '') before = (before + char).slice(-12);
    else if (/[\w$]$/.test(before)) before += ' ';
    at += 1;
  };
  while (at < text.length) {
    const char = text.charAt(at);
    const two = text.slice(at, at + 2);
    if (char === '\n') keep(char);
    else if (two === '//' || (at === 0 && two === '#!')) at = indexOrEnd(text, '\n', at);
    else if (two === '/*') at = blank(out, text, at, indexOrEnd(text, '*/', at + 2) + 2);
    else if (char === '"' || char === "'") {
      const end = endOfString(text, at);
      keep(char);
      at = end;
      if (text[at] === char) keep(char);
    } else if (char === '`' || (char === '}' && templates.at(-1) === 0)) {
      if (char === '}') templates.pop();
      keep(char);
      at = blank(out, text, at, endOfTemplateText(text, at));
      if (text[at] === '`') keep('`');
      else if (at < text.length) {
        at += 1;
        keep('{');
        templates.push(0);
      }
    } else if (char === '/' && startsRegExp(before)) {
      keep('/');
      at = endOfRegExp(text, at);
      if (text[at] === '/') keep('/');
      before += 'x'; // Its end is the end of an expression.
    } else {
      const open = templates.length - 1;
      if (open >= 0 && char === '{') templates[open] = (templates[open] ?? 0) + 1;
      if (open >= 0 && char === '}') templates[open] = (templates[open] ?? 0) - 1;
      keep(char);
    }
  }
  return out.join('');
}

function startsRegExp(before: string): boolean {
  const trimmed = before.trimEnd();
  return !endsExpression.test(trimmed) || keywordBeforeRegExp.test(trimmed);
}

/** Keeps the lines of what is masked, and answers `end`. */
function blank(out: string[], text: string, start: number, end: number): number {
  for (let at = start; at < Math.min(end, text.length); at += 1) if (text[at] === '\n') out[at] = '\n';
  return end;
}

function indexOrEnd(text: string, what: string, from: number): number {
  const index = text.indexOf(what, from);
  return index < 0 ? text.length : index;
}

/** Index of the closing quote, or of the line's end where there is none. */
function endOfString(text: string, start: number): number {
  const quote = text[start];
  let at = start + 1;
  while (at < text.length && text[at] !== quote && text[at] !== '\n') at += text[at] === '\\' ? 2 : 1;
  return at;
}

/** Index of the template's closing backtick or of the `$` of its next `${`. */
function endOfTemplateText(text: string, start: number): number {
  let at = start;
  while (at < text.length && text[at] !== '`' && text.slice(at, at + 2) !== '${') at += text[at] === '\\' ? 2 : 1;
  return at;
}

/** Index of the closing slash, or of the line's end where there is none. */
function endOfRegExp(text: string, start: number): number {
  let at = start + 1;
  for (let inClass = false; at < text.length && text[at] !== '\n'; at += text[at] === '\\' ? 2 : 1) {
    if (text[at] === '[') inClass = true;
    else if (text[at] === ']') inClass = false;
    else if (text[at] === '/' && !inClass) break;
  }
  return at;
}
