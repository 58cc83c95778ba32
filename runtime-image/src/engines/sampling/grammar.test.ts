import { Ajv2020 } from 'ajv/dist/2020.js';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GrammarError } from '../engine.ts';
import { schemaToGbnf } from '../grammar/json-schema.ts';
import { ByteGrammar, type Place } from './byte-grammar.ts';
import { GrammarCache } from './grammar.ts';
import { packVocabulary, TokenOrder } from './token-order.ts';
import { utf8Ranges } from './utf8-ranges.ts';

/** Whether a text is one that the grammar allows, and whether it is the beginning of one. */
function read(grammar: ByteGrammar, text: string): 'whole' | 'begun' | 'wrong' {
  let place: Place | undefined = grammar.start;
  for (const byte of Buffer.from(text)) {
    place = grammar.after(place, byte);
    if (!place) return 'wrong';
  }
  return place.complete ? 'whole' : 'begun';
}

const takes = (gbnf: string, ...texts: readonly string[]) => {
  const grammar = new ByteGrammar(gbnf);
  return texts.map((text) => read(grammar, text));
};

describe('characters as bytes', () => {
  const matches = (low: number, high: number, bytes: Uint8Array) =>
    utf8Ranges(low, high).some(
      (sequence) =>
        sequence.length === bytes.length &&
        sequence.every(([from, to], index) => (bytes[index] ?? -1) >= from && (bytes[index] ?? 256) <= to),
    );
  const character = fc
    .oneof(
      fc.integer({ min: 0, max: 0x10_ffff }),
      fc.constantFrom(0x7f, 0x80, 0x7ff, 0x800, 0xffff, 0x1_0000, 0x10_ffff),
    )
    .filter((code) => code < 0xd800 || code > 0xdfff);

  test('a range holds exactly its characters', () => {
    fc.assert(
      fc.property(character, character, character, (a, b, c) => {
        const [low, high] = a < b ? [a, b] : [b, a];
        expect(matches(low, high, Buffer.from(String.fromCodePoint(c)))).toBe(c >= low && c <= high);
        for (const inside of [low, high])
          expect(matches(low, high, Buffer.from(String.fromCodePoint(inside)))).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });

  test('surrogates are none', () => {
    expect(utf8Ranges(0xd800, 0xdfff)).toEqual([]);
  });
});

describe('what the notation says', () => {
  test.each([
    [
      'texts and alternatives',
      'root ::= "yes" | "no"',
      ['yes', 'no', 'ye', 'maybe'],
      ['whole', 'whole', 'begun', 'wrong'],
    ],
    ['classes', 'root ::= [a-cé-ü_-]', ['b', 'ö', '-', 'd'], ['whole', 'whole', 'whole', 'wrong']],
    [
      'what classes leave out',
      'root ::= [^"\\\\\\n]',
      ['a', '🦙', '"', '\\', '\n'],
      ['whole', 'whole', 'wrong', 'wrong', 'wrong'],
    ],
    ['anything', 'root ::= . .', ['ab', '🦙\n', 'a'], ['whole', 'whole', 'begun']],
    [
      'escapes',
      'root ::= "\\x41\\u00e9\\U0001F999\\"\\t" [\\]\\x42]',
      ['Aé🦙"\t]', 'Aé🦙"\tB', 'A'],
      ['whole', 'whole', 'begun'],
    ],
    ['any number', 'root ::= "a"* "b"+ "c"?', ['b', 'aabbc', 'ac', 'a'], ['whole', 'whole', 'wrong', 'begun']],
    [
      'counts',
      'root ::= "a"{2} ("b" "c"){1,2} [d]{2,}',
      ['aabcdd', 'aabcbcddddd', 'aabcd', 'abcdd', 'aabcbcbc'],
      ['whole', 'whole', 'begun', 'wrong', 'wrong'],
    ],
    ['a count of none', 'root ::= "a"{0} "b"{0,2}', ['', 'bb', 'a', 'bbb'], ['whole', 'whole', 'wrong', 'wrong']],
    [
      'rules before and after',
      'item ::= "x" | "(" root ")"\nroot ::= item ("," item)* # list\n',
      ['x', '(x,x),x', '((x', ')'],
      ['whole', 'whole', 'begun', 'wrong'],
    ],
    ['nothing', 'root ::= "" | "a" root', ['', 'aaa', 'b'], ['whole', 'whole', 'wrong']],
    ['nothing again and again', 'root ::= (("a"?)* "b"?)*', ['', 'abaab', 'c'], ['whole', 'whole', 'wrong']],
    [
      'nested lines',
      'root ::= (\n  "a"\n  | b # second\n)\r\nb ::= "b"\r\n',
      ['a', 'b', 'ab'],
      ['whole', 'whole', 'wrong'],
    ],
    [
      'ambiguity',
      'root ::= ("a" | "aa" | a)+ "!"\na ::= "a"',
      ['aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!', '!'],
      ['whole', 'wrong'],
    ],
  ])('%s', (_, gbnf, texts, expected) => {
    expect(takes(gbnf, ...texts)).toEqual(expected);
  });

  test('no rule begins with itself, not even by detours', () => {
    for (const gbnf of ['root ::= root "a" | "b"', 'root ::= a "x"\na ::= "y"? root', 'root ::= (root){2}'])
      expect(() => new ByteGrammar(gbnf)).toThrow(GrammarError);
    expect(() => new ByteGrammar('root ::= "(" root ")" | "a"')).not.toThrow();
  });

  test('long counts and deep brackets cost no time', () => {
    const grammar = new ByteGrammar('root ::= "\\"" c{0,2000} "\\""\nc ::= [^"\\\\] | "\\\\" ["\\\\/bfnrt]');
    expect(read(grammar, `"${'x\\n'.repeat(1000)}"`)).toBe('whole');
    expect(read(grammar, `"${'x'.repeat(2001)}`)).toBe('wrong');
    const nested = new ByteGrammar('root ::= "[" root? "]"');
    expect(read(nested, `${'['.repeat(5000)}${']'.repeat(5000)}`)).toBe('whole');
  });
});

describe('schemas', () => {
  const ajv = new Ajv2020({ strict: false });
  const SCHEMAS: readonly object[] = [
    { type: 'object', properties: { a: { type: 'integer' }, b: { type: 'string', maxLength: 4 } }, required: ['a'] },
    { type: 'array', items: { type: ['number', 'null', 'boolean'] }, minItems: 1, maxItems: 3 },
    {
      anyOf: [
        { enum: ['é"', 'b', 3] },
        { type: 'object', additionalProperties: { type: 'integer', minimum: 10, maximum: 99 } },
      ],
    },
    { type: 'string', pattern: '^[A-Z]{2}-\\d+$' },
  ];

  /** Takes random bytes that the grammar allows until it may end. */
  function speak(grammar: ByteGrammar, next: (below: number) => number): string {
    const bytes: number[] = [];
    for (let place: Place = grammar.start; ; ) {
      const ways = Array.from({ length: 256 }, (_, byte) => byte).filter((byte) => grammar.after(place, byte));
      const likely = ways.filter((byte) => byte < 0x80 && byte !== 0x20);
      if (place.complete && (ways.length === 0 || next(3) === 0 || bytes.length > 200))
        return Buffer.from(bytes).toString();
      const from = likely.length > 0 && next(10) > 0 ? likely : ways;
      const closing = from.filter((byte) => '"]}'.includes(String.fromCharCode(byte)));
      const choices = bytes.length > 60 && closing.length > 0 ? closing : from;
      const byte = choices[next(choices.length)];
      const after = byte === undefined ? undefined : grammar.after(place, byte);
      if (byte === undefined || !after) throw new Error(`stuck after ${Buffer.from(bytes).toString()}`);
      bytes.push(byte);
      place = after;
    }
  }

  test.each(SCHEMAS.map((schema) => [JSON.stringify(schema), schema] as const))('%s', (_, schema) => {
    const grammar = new ByteGrammar(schemaToGbnf(schema));
    const valid = ajv.compile(schema);
    fc.assert(
      fc.property(fc.infiniteStream(fc.nat({ max: 1_000_000 })), (dice) => {
        const text = speak(grammar, (below) => (dice.next().value as number) % below);
        expect(valid(JSON.parse(text)), text).toBe(true);
      }),
      { numRuns: 100 },
    );
  });
});

describe('tokens', () => {
  const END = 0;
  const words = ['', '{', '"', '{"', 'a', 'ab', 'abc', '":', ' ', '1', '12', '}', '"a":1}', '\u00e9', 'x'];
  const pieces = [
    ...words.map((word) => Buffer.from(word)),
    Buffer.from([0xc3]),
    Buffer.from([0xa9]),
    Buffer.from([0xc3, 0xa9, 0x7d]),
  ];
  const order = new TokenOrder(packVocabulary(pieces.length, (token) => pieces[token] ?? Buffer.alloc(0)));
  const allowed = (gbnf: string, ...said: readonly number[]) => {
    const answer = new GrammarCache(order, [END]).begin(gbnf);
    for (const token of said) answer.accept(token);
    const logits = new Float32Array(pieces.length);
    answer.mask(logits);
    const found = Array.from(logits.keys()).filter((token) => logits[token] === 0);
    // One by one they are what they are together.
    expect(Array.from(logits.keys()).filter((token) => answer.allows(token))).toEqual(found);
    return found.map((token) => (token === END ? 'end' : (words[token] ?? pieces[token]?.toString('hex'))));
  };

  test('are allowed as far as all of their text is', () => {
    expect(allowed('root ::= "{\\"a\\":1}"')).toEqual(['{', '{"']);
    expect(allowed('root ::= "{\\"a\\":1}"', 1)).toEqual(['"', '"a":1}']);
    expect(allowed('root ::= [a-b]+')).toEqual(['a', 'ab']);
  });

  test('the end is one where the grammar is complete', () => {
    expect(allowed('root ::= "a" "b"?')).toEqual(['a', 'ab']);
    expect(allowed('root ::= "a" "b"?', 4)).toEqual(['end']);
    expect(allowed('root ::= "x" "1"*', 14)).toEqual(['end', '1']);
  });

  test('parts of characters are followed by their rest', () => {
    expect(allowed('root ::= "\u00e9" "}"')).toEqual(['\u00e9', 'c3', 'c3a97d']);
    expect(allowed('root ::= "\u00e9" "}"', 15)).toEqual(['a9']);
    expect(allowed('root ::= "\u00e9" "}"', 15, 16)).toEqual(['}']);
  });

  test('after a token that does not fit nothing fits', () => {
    expect(allowed('root ::= "a"', 9)).toEqual([]);
  });

  test('any two tokens of a large vocabulary are told apart as one by one', () => {
    const random = Array.from({ length: 400 }, (_, index) =>
      Buffer.from(`${(index * 7919) % 997}`.replaceAll('3', '"x')),
    );
    const many = new TokenOrder(packVocabulary(random.length, (token) => random[token] ?? Buffer.alloc(0)));
    const answer = new GrammarCache(many, []).begin('root ::= [0-7]* "\\"" [x0-9"]{0,2}');
    const logits = new Float32Array(random.length);
    answer.mask(logits);
    expect(logits.filter((logit) => logit === 0).length).toBeGreaterThan(50);
    for (const [token, logit] of logits.entries()) expect(answer.allows(token)).toBe(logit === 0);
  });
});
