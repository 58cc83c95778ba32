/**
 * Checks a client's GBNF before llama.cpp sees it: llama.cpp prints what it cannot read, which would put a client's words
 * into the log, and it reads some grammars until its stack or memory ends. Accepts no more than llama.cpp does; grammars
 * that name tokens are refused.
 */
import { GrammarError } from '../engine.ts';
import { MOST_REPETITIONS } from './rules.ts';

/** Brackets within brackets: llama.cpp reads them by recursion, on a stack that ends. */
const DEEPEST = 64;
/** Of all repetitions together; each becomes a rule of its own. */
const MOST_IN_ALL = 50_000;

const NAME = /[a-zA-Z0-9-]+/y;
const LITERAL = /"(?:\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[nrt"\\[\]])|[^"\\])*"/y;
const CLASS = /\[(?:\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[nrt"\\[\]])|[^\]\\])*\]/y;
const TIMES = /\{[ \t]*(\d{1,6})[ \t]*(?:(,)[ \t]*(\d{1,6})?[ \t]*)?\}/y;
const BLANK = /(?:[ \t]|#[^\r\n]*)*/y;
const BLANK_LINES = /(?:[ \t\r\n]|#[^\r\n]*)*/y;

/** @throws GrammarError that says where */
export function checkGbnf(text: string): void {
  new Reader(text).grammar();
}

class Reader {
  readonly #text: string;
  readonly #defined = new Set<string>();
  readonly #used = new Set<string>();
  #at = 0;
  #repetitions = 0;

  constructor(text: string) {
    this.#text = text;
  }

  grammar(): void {
    this.#take(BLANK_LINES);
    while (this.#at < this.#text.length) {
      const name = this.#expect(NAME, 'the name of a rule');
      this.#defined.add(name);
      this.#take(BLANK);
      if (!this.#text.startsWith('::=', this.#at)) this.#fail('::=');
      this.#at += 3;
      this.#take(BLANK_LINES);
      this.#alternatives(0);
      const next = this.#text[this.#at];
      if (next !== undefined && next !== '\n' && next !== '\r') this.#fail('the end of the line');
      this.#take(BLANK_LINES);
    }
    if (!this.#defined.has('root')) throw new GrammarError('the grammar has no rule called root');
    const missing = [...this.#used].find((name) => !this.#defined.has(name));
    if (missing !== undefined) throw new GrammarError(`the grammar uses a rule "${missing}" and does not define it`);
  }

  #alternatives(depth: number): void {
    if (depth > DEEPEST) throw new GrammarError(`a grammar may have brackets ${DEEPEST} deep: name inner parts`);
    const blank = depth > 0 ? BLANK_LINES : BLANK;
    for (;;) {
      this.#sequence(depth, blank);
      if (this.#text[this.#at] !== '|') return;
      this.#at++;
      this.#take(BLANK_LINES);
    }
  }

  #sequence(depth: number, blank: RegExp): void {
    for (let first = true; ; first = false) {
      const character = this.#text[this.#at];
      if (character === '"') this.#expect(LITERAL, 'a text that ends');
      else if (character === '[') this.#expect(CLASS, 'a class that ends');
      else if (character === '.') this.#at++;
      else if (character === '(') {
        this.#at++;
        this.#take(BLANK_LINES);
        this.#alternatives(depth + 1);
        if (this.#text[this.#at] !== ')') this.#fail(')');
        this.#at++;
      } else {
        const name = this.#take(NAME);
        if (name === undefined) {
          if (first && character !== '|' && character !== ')' && character !== undefined && !/[\r\n]/.test(character))
            this.#fail('a text, a class, a rule or a bracket');
          return;
        }
        this.#used.add(name);
      }
      this.#take(blank);
      this.#suffix();
      this.#take(blank);
    }
  }

  #suffix(): void {
    const character = this.#text[this.#at];
    if (character === '*' || character === '+' || character === '?') {
      this.#at++;
      return;
    }
    if (character !== '{') return;
    TIMES.lastIndex = this.#at;
    const found = TIMES.exec(this.#text) ?? this.#fail('a count such as {2}, {2,} or {2,5}');
    const min = Number(found[1]);
    const max = found[2] === undefined ? min : found[3] === undefined ? min : Number(found[3]);
    if (max < min) this.#fail('a count whose end is not before its beginning');
    if (max > MOST_REPETITIONS) this.#fail(`a count up to ${MOST_REPETITIONS}`);
    this.#repetitions += max;
    if (this.#repetitions > MOST_IN_ALL)
      throw new GrammarError(`the grammar repeats more than ${MOST_IN_ALL} times in all: lower its counts`);
    this.#at = TIMES.lastIndex;
  }

  #take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  #expect(pattern: RegExp, wanted: string): string {
    return this.#take(pattern) ?? this.#fail(wanted);
  }

  #fail(wanted: string): never {
    const before = this.#text.slice(0, this.#at).split('\n');
    throw new GrammarError(
      `the grammar cannot be read at line ${before.length}, column ${(before.at(-1)?.length ?? 0) + 1}: there should be ${wanted}`,
    );
  }
}
