import { describe, expect, test } from 'vitest';
import { GrammarError } from '../engine.ts';
import { toGbnf } from './grammar.ts';

test('a grammar of the client is taken as it is', () => {
  const text = 'root ::= "((" [(] ("yes" | "no") # (((';
  expect(toGbnf({ type: 'gbnf', text })).toBe(text);
});

test('JSON without a schema is an object', () => {
  expect(toGbnf({ type: 'json' })).toBe(toGbnf({ type: 'json_schema', schema: { type: 'object' } }));
});

test('one that llama.cpp could choke on is refused', () => {
  expect(() => toGbnf({ type: 'gbnf', text: `root ::= ${'('.repeat(65)}"a"${')'.repeat(65)}` })).toThrow(
    'brackets 64 deep',
  );
  expect(() => toGbnf({ type: 'gbnf', text: `root ::= "${'a'.repeat(20_000)}"` })).toThrow('16384 characters');
});

describe('a grammar is read before llama.cpp reads it', () => {
  test.each([
    'root ::= "a"',
    '# first\n\nroot  ::=\n  item ( "," item )* |\n "none"\n\nitem ::= [a-z\\]\\x41] "\\"" . {2,3}\n',
    'root ::= (\n"a"\n| b\n)\r\nb ::= "" |\r\n',
    'root ::= [^"\\\\] {2,}  "x"?',
  ])('%j is one', (text) => {
    expect(toGbnf({ type: 'gbnf', text })).toBe(text);
  });

  test.each([
    ['root ::= "a', 'line 1, column 10: there should be a text that ends'],
    ['root ::= "a"\nb = "c"', 'line 2, column 3: there should be ::='],
    ['root ::= ("a"', 'there should be )'],
    ['root ::= "a")', 'there should be the end of the line'],
    ['root ::= *', 'there should be a text, a class, a rule or a bracket'],
    ['root ::= "a"{3,2}', 'a count whose end is not before its beginning'],
    ['root ::= "a"{99999}', 'a count up to 2000'],
    [`root ::= ${'"a"{2000} '.repeat(26)}`, 'repeats more than 50000 times in all'],
    ['root ::= <think>', 'there should be a text, a class, a rule or a bracket'],
    ['root ::= a', 'uses a rule "a" and does not define it'],
    ['a ::= "b"', 'no rule called root'],
    ['', 'no rule called root'],
  ])('%j is none', (text, message) => {
    expect(() => toGbnf({ type: 'gbnf', text })).toThrow(GrammarError);
    expect(() => toGbnf({ type: 'gbnf', text })).toThrow(message);
  });
});
