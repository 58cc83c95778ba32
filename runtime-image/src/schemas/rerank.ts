/**
 * The body that reranking takes, in the form that Jina, Cohere and llama-server share.
 */
import { type Static, Type } from 'typebox';
import { flag, integer, modelName, text } from './fields.ts';

export const RerankRequest = Type.Object({
  model: modelName,
  query: text,
  documents: Type.Array(Type.Union([Type.String(), Type.Object({ text: Type.String() })]), {
    minItems: 1,
    maxItems: 2048,
    description: 'a list of 1 to 2048 texts, or of objects with a text',
  }),
  top_n: Type.Optional(integer(1, 'a whole number of at least 1')),
  return_documents: Type.Optional(flag),
});
export type RerankRequest = Static<typeof RerankRequest>;
