/**
 * Patterns of topic names (KIP-848, `SubscribedTopicRegex`), matched in time proportional to pattern × name.
 *
 * Grammar, a part of RE2's: literals, `.`, classes `[a-z]` and `[^…]`, `\d \w \s \D \W \S`, escaped punctuation, groups
 * `( )` and `(?: )`, `|`, `* + ?` and `{m,n}` (also lazy, which changes nothing here), `^` and `$`. A pattern matches the
 * whole name. Everything else, back references and look-around among it, is refused: patterns come from outside, and a
 * backtracking matcher can be made to run for years by a short one.
 */
import type { GroupContext } from './commands.ts';

/** UTF-16 units. */
export const MAX_PATTERN_LENGTH = 1_000;
/** Steps of a compiled pattern: repetitions multiply. */
const MAX_STEPS = 4_000;
/** Groups within groups. */
const MAX_DEPTH = 50;

type CharTest = (code: number) => boolean;

/** Step `to` follows; a split has two that may. */
type Step =
  | { readonly kind: 'char'; readonly test: CharTest }
  | { readonly kind: 'split'; first: number; second: number }
  | { readonly kind: 'jump'; to: number }
  | { readonly kind: 'start' | 'end' | 'match' };

type Node =
  | { readonly kind: 'char'; readonly test: CharTest }
  | { readonly kind: 'start' | 'end' }
  | { readonly kind: 'sequence' | 'choice'; readonly parts: readonly Node[] }
  | { readonly kind: 'repeat'; readonly part: Node; readonly min: number; readonly max: number };

interface Program {
  readonly steps: Step[];
  /** Nodes written, also those that take no step. */
  work: number;
}

export interface TopicPattern {
  matches(name: string): boolean;
}

/** What is wrong with `pattern`; null when it can be used. */
export function checkTopicPattern(pattern: string): string | null {
  const compiled = compileTopicPattern(pattern);
  return typeof compiled === 'string' ? compiled : null;
}

/** The topics that the pattern matches now; none for one that cannot be used. */
export function matchingTopics(pattern: string, context: GroupContext): string[] {
  const compiled = compileTopicPattern(pattern);
  if (typeof compiled === 'string') return [];
  return [...(context.topicNames?.() ?? [])].filter((name) => compiled.matches(name)).sort();
}

/** The pattern, or what is wrong with it. */
export function compileTopicPattern(pattern: string): TopicPattern | string {
  if (pattern.length > MAX_PATTERN_LENGTH) return `it is longer than ${MAX_PATTERN_LENGTH} characters`;
  try {
    const program: Program = { steps: [], work: 0 };
    emit(new Parser(pattern).parse(), program);
    const steps: readonly Step[] = [...program.steps, { kind: 'match' }];
    return { matches: (name) => run(steps, name) };
  } catch (error) {
    if (error instanceof PatternError) return error.message;
    throw error;
  }
}

class PatternError extends Error {}

class Parser {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): Node {
    const node = this.#choice();
    if (this.#at < this.#text.length) throw this.#wrong('a closing parenthesis without an opening one');
    return node;
  }

  #choice(): Node {
    const parts = [this.#sequence()];
    while (this.#take('|')) parts.push(this.#sequence());
    return parts.length === 1 ? parts[0]! : { kind: 'choice', parts };
  }

  #sequence(): Node {
    const parts: Node[] = [];
    while (this.#at < this.#text.length && !'|)'.includes(this.#text[this.#at]!)) parts.push(this.#repeated());
    return { kind: 'sequence', parts };
  }

  #repeated(): Node {
    const part = this.#atom();
    const count = this.#count();
    if (count === null) return part;
    this.#take('?');
    if (this.#at < this.#text.length && '*+?'.includes(this.#text[this.#at]!)) {
      throw this.#wrong('a repetition of a repetition');
    }
    return { kind: 'repeat', part, ...count };
  }

  #count(): { min: number; max: number } | null {
    if (this.#take('*')) return { min: 0, max: Infinity };
    if (this.#take('+')) return { min: 1, max: Infinity };
    if (this.#take('?')) return { min: 0, max: 1 };
    const braces = /^\{(\d{1,4})(,(\d{0,4}))?\}/.exec(this.#text.slice(this.#at, this.#at + 12));
    if (braces === null) return null;
    this.#at += braces[0].length;
    const min = Number(braces[1]);
    const max = braces[2] === undefined ? min : braces[3] === '' ? Infinity : Number(braces[3]);
    if (max < min) throw this.#wrong('a repetition whose most is less than its least');
    return { min, max };
  }

  #atom(): Node {
    const char = this.#text[this.#at]!;
    this.#at += 1;
    switch (char) {
      case '.':
        return { kind: 'char', test: () => true };
      case '^':
        return { kind: 'start' };
      case '$':
        return { kind: 'end' };
      case '(':
        return this.#group();
      case '[':
        return { kind: 'char', test: this.#class() };
      case '\\':
        return { kind: 'char', test: this.#escape() };
      case '*':
      case '+':
      case '?':
        throw this.#wrong('a repetition of nothing');
      default:
        return literal(char.charCodeAt(0));
    }
  }

  #group(): Node {
    this.#depth += 1;
    if (this.#depth > MAX_DEPTH) throw this.#wrong(`groups more than ${MAX_DEPTH} deep`);
    if (this.#take('?') && !this.#take(':')) throw this.#wrong('a group that begins with (? other than (?:');
    const node = this.#choice();
    if (!this.#take(')')) throw this.#wrong('a group that is not closed');
    this.#depth -= 1;
    return node;
  }

  #class(): CharTest {
    const negated = this.#take('^');
    const tests: CharTest[] = [];
    for (let first = true; first || !this.#take(']'); first = false) {
      if (this.#at >= this.#text.length) throw this.#wrong('a character class that is not closed');
      if (this.#text.startsWith('[:', this.#at)) throw this.#wrong('a named character class');
      const [test, from] = this.#classItem();
      const isRange = from !== null && this.#text[this.#at] === '-' && this.#text[this.#at + 1] !== ']';
      if (!isRange) {
        tests.push(test);
        continue;
      }
      this.#at += 1;
      if (this.#at >= this.#text.length) throw this.#wrong('a character class that is not closed');
      const [, to] = this.#classItem();
      if (to === null || to < from) throw this.#wrong('a range that ends before it begins');
      tests.push((code) => code >= from && code <= to);
    }
    return (code) => tests.some((test) => test(code)) !== negated;
  }

  /** What it matches, and the character that it is when it is one. */
  #classItem(): [test: CharTest, code: number | null] {
    const char = this.#text[this.#at]!;
    this.#at += 1;
    const code = char.charCodeAt(0);
    if (char !== '\\') return [(other) => other === code, code];
    const escaped = this.#text.charCodeAt(this.#at);
    const test = this.#escape();
    return [test, NAMED_CLASSES.has(String.fromCharCode(escaped)) ? null : escaped];
  }

  #escape(): CharTest {
    const char = this.#text[this.#at];
    if (char === undefined) throw this.#wrong('a backslash at the end');
    this.#at += 1;
    const named = NAMED_CLASSES.get(char);
    if (named !== undefined) return named;
    if (/[0-9A-Za-z]/.test(char)) throw this.#wrong(`\\${char}`);
    const code = char.charCodeAt(0);
    return (other) => other === code;
  }

  #take(char: string): boolean {
    if (this.#text[this.#at] !== char) return false;
    this.#at += 1;
    return true;
  }

  #wrong(what: string): PatternError {
    return new PatternError(`${what} is not supported (character ${this.#at})`);
  }
}

const isDigit: CharTest = (code) => code >= 48 && code <= 57;
const isWord: CharTest = (code) =>
  isDigit(code) || (code >= 65 && code <= 90) || (code >= 97 && code <= 122) || code === 95;
const isSpace: CharTest = (code) => code === 32 || (code >= 9 && code <= 13 && code !== 11);
const NAMED_CLASSES: ReadonlyMap<string, CharTest> = new Map([
  ['d', isDigit],
  ['w', isWord],
  ['s', isSpace],
  ['D', (code: number) => !isDigit(code)],
  ['W', (code: number) => !isWord(code)],
  ['S', (code: number) => !isSpace(code)],
]);

function literal(code: number): Node {
  return { kind: 'char', test: (other) => other === code };
}

function emit(node: Node, program: Program): void {
  const { steps } = program;
  program.work += 1;
  if (program.work > MAX_STEPS) throw new PatternError('its repetitions make it too large');
  switch (node.kind) {
    case 'char':
    case 'start':
    case 'end':
      steps.push(node);
      return;
    case 'sequence':
      for (const part of node.parts) emit(part, program);
      return;
    case 'choice':
      emitChoice(node.parts, program);
      return;
    case 'repeat':
      emitRepeat(node, program);
  }
}

function emitChoice(parts: readonly Node[], program: Program): void {
  const { steps } = program;
  const jumps: { kind: 'jump'; to: number }[] = [];
  parts.forEach((part, index) => {
    if (index === parts.length - 1) {
      emit(part, program);
      return;
    }
    const split = { kind: 'split' as const, first: steps.length + 1, second: 0 };
    steps.push(split);
    emit(part, program);
    const jump = { kind: 'jump' as const, to: 0 };
    steps.push(jump);
    jumps.push(jump);
    split.second = steps.length;
  });
  for (const jump of jumps) jump.to = steps.length;
}

function emitRepeat(node: { part: Node; min: number; max: number }, program: Program): void {
  const { steps } = program;
  for (let i = 0; i < node.min; i++) emit(node.part, program);
  if (node.max === Infinity) {
    const split = { kind: 'split' as const, first: steps.length + 1, second: 0 };
    const at = steps.length;
    steps.push(split);
    emit(node.part, program);
    steps.push({ kind: 'jump', to: at });
    split.second = steps.length;
    return;
  }
  const splits: { kind: 'split'; first: number; second: number }[] = [];
  for (let i = node.min; i < node.max; i++) {
    const split = { kind: 'split' as const, first: steps.length + 1, second: 0 };
    steps.push(split);
    splits.push(split);
    emit(node.part, program);
  }
  for (const split of splits) split.second = steps.length;
}

/** Follows all ways through the pattern at once. */
function run(steps: readonly Step[], name: string): boolean {
  let present = new Set<number>();
  follow(steps, 0, 0, name.length, present);
  for (let i = 0; i < name.length && present.size > 0; i++) {
    const code = name.charCodeAt(i);
    const next = new Set<number>();
    for (const at of present) {
      const step = steps[at]!;
      if (step.kind === 'char' && step.test(code)) follow(steps, at + 1, i + 1, name.length, next);
    }
    present = next;
  }
  return present.has(steps.length - 1);
}

/** Adds where one can be at `position` of the name without reading on. */
function follow(steps: readonly Step[], start: number, position: number, length: number, into: Set<number>): void {
  const open = [start];
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    if (into.has(at)) continue;
    into.add(at);
    const step = steps[at]!;
    if (step.kind === 'jump') open.push(step.to);
    else if (step.kind === 'split') open.push(step.second, step.first);
    else if ((step.kind === 'start' && position === 0) || (step.kind === 'end' && position === length)) {
      open.push(at + 1);
    }
  }
}
