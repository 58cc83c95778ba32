/**
 * Ollama's embeddings: the newer endpoint for many texts and the older one for one.
 */
import type { FastifyInstance } from 'fastify';
import { ApiError } from '../../api-error.ts';
import { checkBody } from '../../schemas/check.ts';
import { EmbeddingsRequest, EmbedRequest } from '../../schemas/ollama.ts';
import { hangUp } from '../answer.ts';
import { shortened } from '../openai/embeddings.ts';
import type { ApiOptions } from '../openai/routes.ts';
import { keepAliveOf, settingsOf } from './options.ts';
import { nanoseconds } from './replies.ts';

export function registerOllamaEmbeddings(app: FastifyInstance, options: ApiOptions): void {
  const { served } = options;

  app.post('/api/embed', { config: { summary: 'Vectors of texts', body: EmbedRequest } }, async (request, reply) => {
    const started = performance.now();
    const body = checkBody(EmbedRequest, request.body);
    const entry = await served.require(body.model, request);
    const { engine, defaults } = await served.use(entry, reply, keepAliveOf(body.keep_alive));
    settingsOf(body.options, engine.info, defaults);
    const length = engine.info.model.embeddingLength;
    if ((body.dimensions ?? 0) > length)
      throw new ApiError(400, `dimensions is ${body.dimensions} and this model gives ${length}: lower it`, {
        param: 'dimensions',
      });
    const { input = [] } = body;
    const inputs = typeof input === 'string' ? (input === '' ? [] : [input]) : input;
    // A request without a text asks for loading; embedding nothing needs no model that can.
    const result =
      inputs.length === 0
        ? { embeddings: [], promptTokens: 0 }
        : await engine.embed(inputs, { truncate: body.truncate !== false, signal: hangUp(reply) });
    request.facts.promptTokens = result.promptTokens;
    return {
      model: body.model,
      embeddings: result.embeddings.map((vector) => [
        ...(body.dimensions ? shortened(vector, body.dimensions) : vector),
      ]),
      total_duration: nanoseconds(performance.now() - started),
      load_duration: nanoseconds(request.facts.loadMs),
      prompt_eval_count: result.promptTokens,
    };
  });

  app.post(
    '/api/embeddings',
    { config: { summary: 'The vector of a text, as older clients ask for it', body: EmbeddingsRequest } },
    async (request, reply) => {
      const body = checkBody(EmbeddingsRequest, request.body);
      const entry = await served.require(body.model, request);
      const { engine, defaults } = await served.use(entry, reply, keepAliveOf(body.keep_alive));
      settingsOf(body.options, engine.info, defaults);
      if (!body.prompt) return { embedding: [] };
      // Ollama scales only the newer endpoint's vectors.
      const { embeddings, promptTokens } = await engine.embed([body.prompt], {
        truncate: true,
        normalize: false,
        signal: hangUp(reply),
      });
      request.facts.promptTokens = promptTokens;
      return { embedding: [...(embeddings[0] ?? [])] };
    },
  );
}
