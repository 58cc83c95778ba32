/**
 * A request's grammar as GBNF, llama.cpp's notation. Owns the choice; schemas are json-schema.ts's business.
 */
import { type Grammar, GrammarError } from '../engine.ts';
import { checkGbnf } from './gbnf.ts';
import { schemaToGbnf } from './json-schema.ts';

/** Characters of GBNF that a client may send: far more than any grammar written by hand. */
const LONGEST = 16_384;
/** @throws GrammarError */
export function toGbnf(grammar: Grammar): string {
  const text = textOf(grammar);
  checkGbnf(text);
  return text;
}

function textOf(grammar: Grammar): string {
  if (grammar.type === 'json') return schemaToGbnf({ type: 'object' });
  if (grammar.type === 'json_schema') return schemaToGbnf(grammar.schema);
  const { text } = grammar;
  if (text.length > LONGEST)
    throw new GrammarError(`a grammar may have ${LONGEST} characters, and this one has ${text.length}`);
  return text;
}
