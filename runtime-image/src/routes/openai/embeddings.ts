/**
 * OpenAI's embeddings.
 */
import type { FastifyInstance } from 'fastify';
import { ApiError } from '../../api-error.ts';
import type { Token } from '../../engines/engine.ts';
import { checkBody } from '../../schemas/check.ts';
import { EmbeddingsRequest } from '../../schemas/openai.ts';
import { hangUp } from '../answer.ts';
import type { ApiOptions } from './routes.ts';

export function registerOpenAiEmbeddings(app: FastifyInstance, options: ApiOptions): void {
  const { served } = options;
  app.post(
    '/v1/embeddings',
    { config: { summary: 'Vectors of texts', body: EmbeddingsRequest } },
    async (request, reply) => {
      const body = checkBody(EmbeddingsRequest, request.body);
      const entry = await served.require(body.model, request);
      const { engine } = await served.use(entry, reply);
      const length = engine.info.model.embeddingLength;
      if (body.dimensions !== undefined && body.dimensions > length)
        throw new ApiError(400, `dimensions is ${body.dimensions} and this model gives ${length}: lower it`, {
          param: 'dimensions',
          code: 'invalid_value',
        });
      const inputs = inputsOf(body.input);
      const { vocabularySize } = engine.info.model;
      if (inputs.some((input) => typeof input !== 'string' && input.some((token) => token >= vocabularySize)))
        throw new ApiError(400, `input has tokens that this model does not know: they end at ${vocabularySize - 1}`, {
          param: 'input',
        });
      const { embeddings, promptTokens } = await engine.embed(inputs, { signal: hangUp(reply) });
      request.facts.promptTokens = promptTokens;
      return {
        object: 'list',
        data: embeddings.map((whole, index) => {
          const vector = body.dimensions === undefined ? whole : shortened(whole, body.dimensions);
          return {
            object: 'embedding',
            index,
            embedding: body.encoding_format === 'base64' ? base64(vector) : [...vector],
          };
        }),
        model: body.model,
        usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
      };
    },
  );
}

function inputsOf(input: EmbeddingsRequest['input']): (string | readonly Token[])[] {
  if (typeof input === 'string') return [input];
  return input.every((one) => typeof one === 'number') ? [input] : input;
}

/** The first dimensions of a vector, at length 1 again. */
export function shortened(vector: Float32Array, dimensions: number): Float32Array {
  const cut = vector.slice(0, dimensions);
  const length = Math.hypot(...cut);
  return length === 0 ? cut : cut.map((value) => value / length);
}

/** Little-endian 32-bit floats, as the official clients read them. */
function base64(vector: Float32Array): string {
  const bytes = Buffer.alloc(vector.length * 4);
  vector.forEach((value, index) => bytes.writeFloatLE(value, index * 4));
  return bytes.toString('base64');
}
