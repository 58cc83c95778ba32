/**
 * Reranking: documents in the order of how well they answer a query. One shape under the paths that clients know it by.
 */
import type { FastifyInstance } from 'fastify';
import { checkBody } from '../schemas/check.ts';
import { RerankRequest } from '../schemas/rerank.ts';
import { hangUp } from './answer.ts';
import type { ApiOptions } from './openai/routes.ts';

/** Jina and llama-server; Cohere; llama-server's shorter one. */
const PATHS = ['/v1/rerank', '/v2/rerank', '/rerank'] as const;

export function registerRerank(app: FastifyInstance, { served }: ApiOptions): void {
  for (const path of PATHS)
    app.post(
      path,
      { config: { summary: 'Documents by how well they answer a query', body: RerankRequest } },
      async (request, reply) => {
        const body = checkBody(RerankRequest, request.body);
        const entry = await served.require(body.model, request);
        const { engine } = await served.use(entry, reply);
        const documents = body.documents.map((one) => (typeof one === 'string' ? one : one.text));
        const { scores, promptTokens } = await engine.rank(body.query, documents, hangUp(reply));
        request.facts.promptTokens = promptTokens;
        return {
          object: 'list',
          model: body.model,
          usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
          results: scores
            .map((score, index) => ({
              index,
              relevance_score: score,
              ...(body.return_documents === true ? { document: { text: documents[index] } } : {}),
            }))
            .sort((a, b) => b.relevance_score - a.relevance_score || a.index - b.index)
            .slice(0, body.top_n),
        };
      },
    );
}
