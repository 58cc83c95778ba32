/**
 * GBNF text as an automaton over bytes: each rule a network of states whose edges are bytes, nothing, or another rule.
 * Owns reading and building; following it is byte-grammar.ts's work. Takes text that grammar/gbnf.ts has checked.
 */
import { GrammarError } from '../engine.ts';
import { finalStates, refuseLeftRecursion } from './automaton-checks.ts';
import { type ByteSequence, utf8, utf8Ranges } from './utf8-ranges.ts';

export interface State {
  /** States that are reached without a byte. */
  readonly free: number[];
  /** Low byte, high byte and target in turns. */
  readonly bytes: number[];
  /** Rule that must be gone through, and the state after it. */
  call?: { readonly rule: number; readonly back: number };
}

export interface Automaton {
  readonly states: readonly State[];
  /** First and last state of each rule; the first rule is root. */
  readonly rules: readonly { readonly start: number; readonly end: number }[];
  /** Whether nothing but the end of its rule can follow a state: returning there needs no memory. */
  readonly final: readonly boolean[];
}

/** A part of the network with one way in and one way out. */
export interface Piece {
  readonly start: number;
  readonly end: number;
}

/** Parts with more states than this become a rule of their own when they are repeated. */
const LARGEST_COPY = 3;
const LAST_CHARACTER = 0x10_ffff;
/** States of one grammar; some 200 bytes each. */
const MOST_STATES = 300_000;

/** @throws GrammarError for a rule that begins with itself, which could go on for ever without a byte */
export function parseGbnf(text: string): Automaton {
  const builder = new Builder(text);
  builder.grammar();
  const { states, rules } = builder;
  refuseLeftRecursion(states, rules);
  return { states, rules, final: finalStates(states, rules) };
}

class Builder {
  readonly states: State[] = [];
  readonly rules: { start: number; end: number }[] = [];
  readonly #text: string;
  readonly #numbers = new Map<string, number>();
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  grammar(): void {
    this.#rule('root');
    for (this.#blanks(true); this.#at < this.#text.length; this.#blanks(true)) {
      const { start, end } = this.#ruleAt(this.#rule(this.#name()));
      this.#blanks(false);
      this.#skip('::=');
      this.#blanks(true);
      const body = this.#alternatives(false);
      this.#link(start, body.start);
      this.#link(body.end, end);
    }
  }

  #alternatives(nested: boolean): Piece {
    const piece = { start: this.#state(), end: this.#state() };
    for (;;) {
      const option = this.#sequence(nested);
      this.#link(piece.start, option.start);
      this.#link(option.end, piece.end);
      if (this.#text[this.#at] !== '|') return piece;
      this.#at++;
      this.#blanks(true);
    }
  }

  #sequence(nested: boolean): Piece {
    const start = this.#state();
    let end = start;
    for (let item = this.#item(); item; item = this.#item()) {
      this.#blanks(nested);
      const repeated = this.#repeated(item);
      this.#blanks(nested);
      this.#link(end, repeated.start);
      end = repeated.end;
    }
    return { start, end };
  }

  #item(): Piece | undefined {
    const character = this.#text[this.#at];
    if (character === '"') return this.#literal();
    if (character === '[') return this.#class();
    if (character === '.') {
      this.#at++;
      return this.#sequences(utf8Ranges(0, LAST_CHARACTER));
    }
    if (character === '(') {
      this.#at++;
      this.#blanks(true);
      const piece = this.#alternatives(true);
      this.#skip(')');
      return piece;
    }
    return character !== undefined && /[a-zA-Z0-9-]/.test(character) ? this.#call(this.#rule(this.#name())) : undefined;
  }

  #literal(): Piece {
    this.#at++;
    const start = this.#state();
    let end = start;
    while (this.#text[this.#at] !== '"') {
      for (const byte of utf8(this.#character())) {
        const next = this.#state();
        this.#stateAt(end).bytes.push(byte, byte, next);
        end = next;
      }
    }
    this.#at++;
    return { start, end };
  }

  #class(): Piece {
    this.#at++;
    const negated = this.#text[this.#at] === '^';
    if (negated) this.#at++;
    const ranges: [number, number][] = [];
    while (this.#text[this.#at] !== ']') {
      const low = this.#character();
      let high = low;
      if (this.#text[this.#at] === '-' && this.#text[this.#at + 1] !== ']') {
        this.#at++;
        high = this.#character();
      }
      if (low <= high) ranges.push([low, high]);
    }
    this.#at++;
    return this.#sequences((negated ? complement(ranges) : ranges).flatMap(([low, high]) => utf8Ranges(low, high)));
  }

  /** A character of a text or class, with its escapes. */
  #character(): number {
    const escape = /\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([nrt"\\[\]]))/y;
    escape.lastIndex = this.#at;
    const found = escape.exec(this.#text);
    if (found) {
      this.#at = escape.lastIndex;
      const hex = found[1] ?? found[2] ?? found[3];
      if (hex !== undefined) return Math.min(Number.parseInt(hex, 16), LAST_CHARACTER);
      const named: Record<string, string> = { n: '\n', r: '\r', t: '\t' };
      return (named[found[4] ?? ''] ?? found[4] ?? '').codePointAt(0) ?? 0;
    }
    const character = this.#text.codePointAt(this.#at);
    if (character === undefined) throw new GrammarError('the grammar ends within a text or a class');
    this.#at += character > 0xffff ? 2 : 1;
    return character;
  }

  #repeated(item: Piece): Piece {
    const counted = /([*+?])|\{[ \t]*(\d+)[ \t]*(?:(,)[ \t]*(\d+)?[ \t]*)?\}/y;
    counted.lastIndex = this.#at;
    const found = counted.exec(this.#text);
    if (!found) return item;
    this.#at = counted.lastIndex;
    const min = found[2] === undefined ? (found[1] === '+' ? 1 : 0) : Number(found[2]);
    const max =
      found[2] === undefined
        ? found[1] === '?'
          ? 1
          : Number.POSITIVE_INFINITY
        : found[3] === undefined
          ? min
          : found[4] === undefined
            ? Number.POSITIVE_INFINITY
            : Number(found[4]);
    return this.#repeat(item, min, max);
  }

  #repeat(item: Piece, min: number, max: number): Piece {
    const copy = this.#copier(item, Number.isFinite(max) ? max : min + 1);
    const start = this.#state();
    const exits: number[] = [];
    let end = start;
    for (let count = 0; count < (Number.isFinite(max) ? max : min); count++) {
      if (count >= min) exits.push(end);
      const piece = copy();
      this.#link(end, piece.start);
      end = piece.end;
    }
    if (!Number.isFinite(max)) {
      const loop = this.#state();
      const piece = copy();
      this.#link(end, loop);
      this.#link(loop, piece.start);
      this.#link(piece.end, loop);
      end = loop;
    }
    const last = this.#state();
    for (const exit of [...exits, end]) this.#link(exit, last);
    return { start, end: last };
  }

  /** Gives the same part as often as it is wanted: itself when that is once, else calls of a rule made of it. */
  #copier(item: Piece, times: number): () => Piece {
    if (times <= 1) return () => item;
    const inner = this.#stateAt(item.start);
    if (item.end - item.start < LARGEST_COPY && inner.call) {
      const { rule } = inner.call;
      return () => this.#call(rule);
    }
    const rule = this.rules.length;
    this.rules.push({ start: item.start, end: item.end });
    return () => this.#call(rule);
  }

  #call(rule: number): Piece {
    const start = this.#state();
    const end = this.#state();
    this.#stateAt(start).call = { rule, back: end };
    return { start, end };
  }

  #sequences(sequences: readonly ByteSequence[]): Piece {
    const start = this.#state();
    const end = this.#state();
    for (const sequence of sequences) {
      let at = start;
      sequence.forEach(([low, high], index) => {
        const next = index === sequence.length - 1 ? end : this.#state();
        this.#stateAt(at).bytes.push(low, high, next);
        at = next;
      });
    }
    return { start, end };
  }

  #rule(name: string): number {
    const known = this.#numbers.get(name);
    if (known !== undefined) return known;
    const number = this.rules.length;
    this.rules.push({ start: this.#state(), end: this.#state() });
    this.#numbers.set(name, number);
    return number;
  }

  #ruleAt(number: number): Piece {
    return this.rules[number] as Piece;
  }

  #state(): number {
    if (this.states.length >= MOST_STATES) throw new GrammarError('the grammar is too large: lower its counts');
    return this.states.push({ free: [], bytes: [] }) - 1;
  }

  #stateAt(number: number): State {
    return this.states[number] as State;
  }

  #link(from: number, to: number): void {
    this.#stateAt(from).free.push(to);
  }

  #name(): string {
    const name = /[a-zA-Z0-9-]+/y;
    name.lastIndex = this.#at;
    const found = name.exec(this.#text)?.[0];
    if (found === undefined) throw new GrammarError('the grammar cannot be read: there should be the name of a rule');
    this.#at += found.length;
    return found;
  }

  #skip(text: string): void {
    if (!this.#text.startsWith(text, this.#at))
      throw new GrammarError(`the grammar cannot be read: there should be ${text}`);
    this.#at += text.length;
  }

  #blanks(lines: boolean): void {
    const blank = lines ? /(?:[ \t\r\n]|#[^\r\n]*)*/y : /(?:[ \t]|#[^\r\n]*)*/y;
    blank.lastIndex = this.#at;
    blank.exec(this.#text);
    this.#at = blank.lastIndex;
  }
}

/** The characters that are in none of the ranges. */
function complement(ranges: readonly (readonly [number, number])[]): [number, number][] {
  const found: [number, number][] = [];
  let from = 0;
  for (const [low, high] of [...ranges].sort(([a], [b]) => a - b)) {
    if (low > from) found.push([from, low - 1]);
    from = Math.max(from, high + 1);
  }
  if (from <= LAST_CHARACTER) found.push([from, LAST_CHARACTER]);
  return found;
}
