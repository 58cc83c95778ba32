/**
 * Cuts a template in Go's syntax into text and actions, and actions into words. Owns trim markers, comments, strings and
 * numbers. Pure.
 */

/** A template that Go would not take either, or that this server does not. */
export class TemplateError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'TemplateError';
  }
}

export type Word =
  | { readonly kind: 'text'; readonly text: string; readonly line: number }
  /** The end of an action. */
  | { readonly kind: 'end'; readonly line: number }
  | {
      /** field: `.Name`; variable: `$name` or `$`; mark: punctuation, the dot alone among it. */
      readonly kind: 'name' | 'field' | 'variable' | 'mark';
      readonly text: string;
      readonly line: number;
      /** Whether white space stands before it: `$x .Name` are two things, `$x.Name` is one. */
      readonly apart: boolean;
    }
  | {
      readonly kind: 'value';
      readonly value: string | number | bigint;
      readonly line: number;
      readonly apart: boolean;
    };

const SPACE = /[ \t\r\n]/;
const NAME = /[\p{L}\p{Nd}_]+/uy;
const NUMBER = /[+-]?(?:0[xX][\da-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?)/y;
const MARKS = [':=', '=', '|', '(', ')', ',', '.'];

/** @throws TemplateError */
export function lex(source: string): Word[] {
  const words: Word[] = [];
  let at = 0;
  let line = 1;
  let trimNext = false;
  const fail = (message: string): never => {
    throw new TemplateError(`line ${line}: ${message}`);
  };
  const skip = (to: number) => {
    for (; at < to; at++) if (source[at] === '\n') line++;
  };
  while (at < source.length) {
    const open = source.indexOf('{{', at);
    const textEnd = open < 0 ? source.length : open;
    let text = source.slice(at, textEnd);
    if (trimNext) text = text.replace(/^[ \t\r\n]+/, '');
    const trims = source[textEnd + 2] === '-' && SPACE.test(source[textEnd + 3] ?? '');
    if (open >= 0 && trims) text = text.replace(/[ \t\r\n]+$/, '');
    if (text !== '') words.push({ kind: 'text', text, line });
    skip(textEnd);
    trimNext = false;
    if (open < 0) break;
    at = open + (trims ? 3 : 2);
    trimNext = action();
  }
  return words;

  /** Reads one action to behind its end. @returns whether what follows it is trimmed */
  function action(): boolean {
    let start = at;
    while (SPACE.test(source[start] ?? '')) start++;
    if (source.startsWith('/*', start)) {
      const close = source.indexOf('*/', start);
      if (close < 0) fail('a comment is never closed');
      skip(close + 2);
      const end = /\s+-}}|}}/y;
      end.lastIndex = at;
      const found = end.exec(source) ?? fail('a comment must stand alone between {{ and }}');
      skip(end.lastIndex);
      return found[0] !== '}}';
    }
    for (let apart = true; ; ) {
      const from = at;
      while (SPACE.test(source[at] ?? '')) skip(at + 1);
      apart ||= at > from;
      if (at >= source.length) fail('an action is never closed with }}');
      if (source.startsWith('-}}', at) && at > from) {
        skip(at + 3);
        words.push({ kind: 'end', line });
        return true;
      }
      if (source.startsWith('}}', at)) {
        skip(at + 2);
        words.push({ kind: 'end', line });
        return false;
      }
      word(apart);
      apart = false;
    }
  }

  function word(apart: boolean): void {
    const char = source[at] ?? '';
    if (char === '"' || char === '`' || char === "'") return quoted(char, apart);
    const named = char === '.' || char === '$' ? match(NAME, at + 1) : '';
    if (char === '$' || (char === '.' && named !== '' && !/^\d/.test(named))) {
      words.push({ kind: char === '$' ? 'variable' : 'field', text: char === '$' ? `$${named}` : named, line, apart });
      at += 1 + named.length;
      return;
    }
    const number = match(NUMBER, at);
    if (number !== '' && !/^[+-]?\.?$/.test(number)) {
      words.push({ kind: 'value', value: numberOf(number), line, apart });
      at += number.length;
      return;
    }
    const name = match(NAME, at);
    if (name !== '') {
      words.push({ kind: 'name', text: name, line, apart });
      at += name.length;
      return;
    }
    const mark = MARKS.find((one) => source.startsWith(one, at)) ?? fail(`${JSON.stringify(char)} is unexpected`);
    words.push({ kind: 'mark', text: mark, line, apart });
    at += mark.length;
  }

  function quoted(quote: string, apart: boolean): void {
    const begin = line;
    let end = at + 1;
    while (end < source.length && source[end] !== quote) {
      if (source[end] === '\n' && quote !== '`') fail('a string ends with its line');
      end += source[end] === '\\' && quote !== '`' ? 2 : 1;
    }
    if (end >= source.length) fail('a string is never closed');
    const raw = source.slice(at + 1, end);
    skip(end + 1);
    if (quote === '`') {
      words.push({ kind: 'value', value: raw.replaceAll('\r', ''), line: begin, apart });
      return;
    }
    const text = unescaped(raw, fail);
    if (quote === '"') words.push({ kind: 'value', value: text, line: begin, apart });
    else if (Array.from(text).length === 1)
      words.push({ kind: 'value', value: BigInt(text.codePointAt(0) ?? 0), line: begin, apart });
    else fail('a character in single quotes must be one character');
  }

  function match(pattern: RegExp, from: number): string {
    pattern.lastIndex = from;
    return pattern.exec(source)?.[0] ?? '';
  }
}

function numberOf(text: string): number | bigint {
  const plain = text.replaceAll('_', '');
  const sign = plain.startsWith('-') ? -1 : 1;
  const digits = plain.replace(/^[+-]/, '');
  if (/^0[xXbBoO]/.test(digits) || /^\d+$/.test(digits)) {
    // A leading nought alone means eight.
    const octal = /^0[0-7]+$/.test(digits) ? `0o${digits.slice(1)}` : digits;
    return BigInt(sign) * BigInt(octal);
  }
  return sign * Number(digits);
}

const ESCAPES: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  '\\': '\\',
  '"': '"',
  "'": "'",
};

/** Escapes name bytes as well as characters, so the text is put together as bytes. */
function unescaped(raw: string, fail: (message: string) => never): string {
  const parts: Buffer[] = [];
  const pattern = /\\(x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8}|[0-7]{3}|.)|[^\\]+/gsu;
  for (const [piece, escape] of raw.matchAll(pattern)) {
    if (escape === undefined) parts.push(Buffer.from(piece));
    else if (/^x../.test(escape)) parts.push(Buffer.from([Number.parseInt(escape.slice(1), 16)]));
    else if (/^[uU]..../.test(escape))
      parts.push(Buffer.from(String.fromCodePoint(Number.parseInt(escape.slice(1), 16))));
    else if (/^[0-7]{3}$/.test(escape)) parts.push(Buffer.from([Number.parseInt(escape, 8) & 255]));
    else parts.push(Buffer.from(ESCAPES[escape] ?? fail(`\\${escape} is no escape`)));
  }
  return Buffer.concat(parts).toString();
}
