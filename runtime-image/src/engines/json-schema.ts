import { GrammarError } from './engine.ts';
export function schemaToGbnf(schema: unknown): string {
  if (schema === false) throw new GrammarError('no answer satisfies this schema', 'false', '#');
  return 'root ::= "{" "}"';
}
