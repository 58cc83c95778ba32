import { expect, test } from 'vitest';
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
