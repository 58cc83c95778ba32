/**
 * A schema's `pattern`, a regular expression, as grammar of the inside of a JSON text. Takes the part of regular
 * expressions that is regular; everything else is refused. Where JSON would need an escape that a class merely allows,
 * the grammar allows less.
 */
import { GrammarError } from '../engine.ts';
import { characters, choice, MOST_REPETITIONS, type Node, repeat, sequence, text } from './rules.ts';

/** A character that JSON writes as itself. */
const PLAIN = characters('[^"\\\\\\x00-\\x1F]');
const DEEPEST = 32;
/** Ranges of code points. */
type Ranges = readonly (readonly [from: number, to: number])[];
const DIGITS: Ranges = [[0x30, 0x39]];
const WORD: Ranges = [...DIGITS, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]];
/** Of all white space only the one that JSON writes as itself. */
const SPACE: Ranges = [[0x20, 0x20]];
const SETS: Readonly<Record<string, Ranges>> = { d: DIGITS, w: WORD, s: SPACE };
const CONTROLS: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', f: '\f' };

/** @throws GrammarError (pattern) */
export function patternNode(pattern: string, path: string): Node {
  const open = !pattern.startsWith('^');
  const endless = !/(?:^|[^\\])(?:\\\\)*\$$/.test(pattern);
  const inner = pattern.slice(open ? 0 : 1, endless ? undefined : -1);
  const reader = new Reader(inner, path);
  const { node, alternatives } = reader.whole();
  // `^a|b$` is (^a)|(b$), and not what this would make of it.
  if (alternatives > 1 && !(open && endless)) reader.refuse('put the alternatives in brackets');
  const anything = repeat(PLAIN, 0, Number.POSITIVE_INFINITY);
  return sequence(...(open ? [anything] : []), node, ...(endless ? [anything] : []));
}

class Reader {
  readonly #characters: readonly string[];
  readonly #path: string;
  #at = 0;

  constructor(pattern: string, path: string) {
    this.#characters = Array.from(pattern);
    this.#path = path;
  }

  whole(): { node: Node; alternatives: number } {
    const options = this.#options(0);
    if (this.#at < this.#characters.length) this.refuse('its brackets do not match');
    return { node: choice(...options), alternatives: options.length };
  }

  refuse(why: string): never {
    throw new GrammarError(`${this.#path}: this "pattern" is not supported: ${why}`, 'pattern', this.#path);
  }

  #options(depth: number): Node[] {
    if (depth > DEEPEST) this.refuse('its brackets are too deep');
    const options: Node[] = [];
    let parts: Node[] = [];
    for (;;) {
      const character = this.#characters[this.#at];
      if (character === undefined || character === ')' || character === '|') {
        options.push(sequence(...parts));
        if (character !== '|') return options;
        this.#at++;
        parts = [];
      } else parts.push(this.#repeated(this.#item(depth)));
    }
  }

  #item(depth: number): Node {
    const character = this.#characters[this.#at++] ?? '';
    switch (character) {
      case '(': {
        if (this.#characters[this.#at] === '?') {
          if (this.#characters[this.#at + 1] !== ':') this.refuse('it looks ahead or behind, or names a group');
          this.#at += 2;
        }
        const options = this.#options(depth + 1);
        if (this.#characters[this.#at++] !== ')') this.refuse('its brackets do not match');
        return choice(...options);
      }
      case '[':
        return this.#class();
      case '.':
        return PLAIN;
      case '\\': {
        const { ranges, negated } = this.#escape();
        return negated ? without(ranges) : oneOf(ranges);
      }
      case '^':
      case '$':
        return this.refuse(`${character} stands inside`);
      case '*':
      case '+':
      case '?':
      case '{':
      case '}':
      case ']':
        return this.refuse(`${character} stands for itself: write \\${character}`);
      default:
        return literal(character.codePointAt(0) ?? 0);
    }
  }

  #repeated(node: Node): Node {
    const rest = this.#characters.slice(this.#at, this.#at + 16).join('');
    const found = /^(?:[*+?]|\{(\d{1,5})(,)?(\d{1,5})?\})/.exec(rest);
    if (!found) return node;
    this.#at += found[0].length;
    if (/[?+]/.test(this.#characters[this.#at] ?? '')) this.refuse('it has a lazy or possessive count');
    if (found[0] === '*') return repeat(node, 0, Number.POSITIVE_INFINITY);
    if (found[0] === '+') return repeat(node, 1, Number.POSITIVE_INFINITY);
    if (found[0] === '?') return repeat(node, 0, 1);
    const min = Number(found[1]);
    const max = found[2] === undefined ? min : found[3] === undefined ? Number.POSITIVE_INFINITY : Number(found[3]);
    if (max < min) this.refuse('a count ends before it begins');
    if (min > MOST_REPETITIONS) this.refuse(`a count may be ${MOST_REPETITIONS} at most`);
    return repeat(node, min, max === Number.POSITIVE_INFINITY ? max : Math.min(max, MOST_REPETITIONS));
  }

  /** After the backslash. */
  #escape(): { ranges: Ranges; negated: boolean } {
    const character = this.#characters[this.#at++] ?? this.refuse('it ends with a backslash');
    const set = SETS[character.toLowerCase()];
    if (set) return { ranges: set, negated: character !== character.toLowerCase() };
    const control = CONTROLS[character];
    if (control === undefined && /[a-zA-Z0-9]/.test(character)) this.refuse(`\\${character} is unknown here`);
    const code = (control ?? character).codePointAt(0) ?? 0;
    return { ranges: [[code, code]], negated: false };
  }

  #class(): Node {
    const negated = this.#characters[this.#at] === '^';
    if (negated) this.#at++;
    const ranges: (readonly [number, number])[] = [];
    const one = (): Ranges => {
      const character = this.#characters[this.#at++] ?? this.refuse('a class does not end');
      if (character !== '\\') return [[character.codePointAt(0) ?? 0, character.codePointAt(0) ?? 0]];
      const escaped = this.#escape();
      if (escaped.negated) this.refuse('a class has a negated class inside');
      return escaped.ranges;
    };
    while (this.#characters[this.#at] !== ']') {
      const from = one();
      const isRange = this.#characters[this.#at] === '-' && this.#characters[this.#at + 1] !== ']';
      if (!isRange) {
        ranges.push(...from);
        continue;
      }
      this.#at++;
      const to = one();
      const [[low] = [0], [high] = [0]] = [from[0], to[0]];
      if (from.length > 1 || to.length > 1 || high < low) this.refuse('a class has a range that is none');
      ranges.push([low, high]);
    }
    this.#at++;
    return negated ? without(ranges) : oneOf(ranges);
  }
}

/** One character as JSON writes it. */
function literal(code: number): Node {
  return text(JSON.stringify(String.fromCodePoint(code)).slice(1, -1));
}

function without(ranges: Ranges): Node {
  return characters(
    `[^"\\\\\\x00-\\x1F${ranges
      .filter(([, to]) => to >= 0x20)
      .map(inClass)
      .join('')}]`,
  );
}

function oneOf(ranges: Ranges): Node {
  const options: Node[] = [];
  const plain: (readonly [number, number])[] = [];
  for (const [from, to] of ranges) {
    // What JSON escapes is written out, alone; a range that merely passes over it leaves it out.
    if (from === to && (from < 0x20 || from === 0x22 || from === 0x5c)) options.push(literal(from));
    else
      for (const [low, high] of [
        [0x20, 0x21],
        [0x23, 0x5b],
        [0x5d, 0xd7ff],
        [0xe000, 0x10ffff],
      ] as const)
        if (Math.max(from, low) <= Math.min(to, high)) plain.push([Math.max(from, low), Math.min(to, high)]);
  }
  if (plain.length > 0) options.push(characters(`[${plain.map(inClass).join('')}]`));
  return choice(...options);
}

function inClass([from, to]: readonly [number, number]): string {
  const hex = (code: number) => `\\U${code.toString(16).padStart(8, '0')}`;
  return from === to ? hex(from) : `${hex(from)}-${hex(to)}`;
}
