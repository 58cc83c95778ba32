/**
 * A request's grammar as GBNF, llama.cpp's notation. Owns the choice; schemas are json-schema.ts's business.
 */
import { type Grammar, GrammarError } from '../engine.ts';
import { schemaToGbnf } from './json-schema.ts';

/** Characters of GBNF that a client may send: far more than any grammar written by hand. */
const LONGEST = 16_384;
/** Brackets within brackets: llama.cpp reads them by recursion, on a stack that ends. */
const DEEPEST = 64;

/** @throws GrammarError */
export function toGbnf(grammar: Grammar): string {
  if (grammar.type === 'json') return schemaToGbnf({ type: 'object' });
  if (grammar.type === 'json_schema') return schemaToGbnf(grammar.schema);
  const { text } = grammar;
  if (text.length > LONGEST)
    throw new GrammarError(`a grammar may have ${LONGEST} characters, and this one has ${text.length}`);
  if (depthOf(text) > DEEPEST) throw new GrammarError(`a grammar may have brackets ${DEEPEST} deep: name inner parts`);
  return text;
}

/** How deep round brackets go, outside of texts, classes and comments. */
function depthOf(gbnf: string): number {
  const bare = gbnf.replace(/"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*/gs, '');
  let depth = 0;
  let deepest = 0;
  for (const character of bare) {
    if (character === '(') deepest = Math.max(deepest, ++depth);
    else if (character === ')') depth--;
  }
  return deepest;
}
