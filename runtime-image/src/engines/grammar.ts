/**
 * A request's grammar as GBNF, llama.cpp's notation. Owns the choice; schemas are json-schema.ts's business.
 */
import { type Grammar, GrammarError } from './engine.ts';
import { schemaToGbnf } from './json-schema.ts';

/** Characters of GBNF that a client may send: far more than any grammar written by hand. */
const LONGEST = 65_536;

/** @throws GrammarError */
export function toGbnf(grammar: Grammar): string {
  if (grammar.type === 'json') return schemaToGbnf({ type: 'object' });
  if (grammar.type === 'json_schema') return schemaToGbnf(grammar.schema);
  if (grammar.text.length > LONGEST)
    throw new GrammarError(`a grammar may have ${LONGEST} characters, and this one has ${grammar.text.length}`);
  return grammar.text;
}
