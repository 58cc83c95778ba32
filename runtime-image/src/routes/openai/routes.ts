/**
 * OpenAI's API. Owns the order of checks; what they check lies beside.
 */
import { randomBytes } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ApiError } from '../../api-error.ts';
import type { Lifecycle } from '../../lifecycle.ts';
import type { Metrics } from '../../plugins/metrics.ts';
import { checkBody } from '../../schemas/check.ts';
import { ChatCompletionRequest, CompletionRequest, type GenerationFields } from '../../schemas/openai.ts';
import { type AnswerRequest, chatPrompt, sendStream, startAnswer, textPrompt, wholeAnswer } from '../answer.ts';
import type { ServedModel } from '../served-model.ts';
import { refuseUnsupported } from './refusals.ts';
import { chatCompletion, completion, type ReplyHead, streamFormat } from './replies.ts';
import { messagesOf, samplingOf, stopsOf } from './request.ts';

export interface ApiOptions {
  readonly lifecycle: Lifecycle;
  readonly metrics: Metrics;
  readonly served: ServedModel;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

/** Endpoints of the real API that answer with the reason why not, instead of a bare 404. */
const NOT_YET = [
  ['POST', '/v1/embeddings', 'embeddings are not supported yet'],
  ['POST', '/v1/responses', 'the responses API is not supported yet: use /v1/chat/completions'],
  ['POST', '/v1/messages', "Anthropic's messages API is not supported yet: use /v1/chat/completions"],
] as const;

export function registerOpenAi(app: FastifyInstance, options: ApiOptions): void {
  const { lifecycle, metrics, served, now } = options;

  const head = (prefix: string, model: string): ReplyHead => ({
    id: `${prefix}-${randomBytes(12).toString('hex')}`,
    created: Math.floor(now() / 1000),
    model,
  });

  app.post('/v1/chat/completions', async (request, reply) => {
    const body = checkBody(ChatCompletionRequest, request.body);
    served.require(body.model);
    refuseUnsupported(body);
    const messages = messagesOf(body);
    const model = lifecycle.model();
    const answer = answerOf(body, chatPrompt(model, messages), body.max_completion_tokens);
    const generation = startAnswer(model, metrics, reply, answer);
    const about = head('chatcmpl', body.model);
    if (body.stream !== true) {
      const { text, end } = await wholeAnswer(generation);
      return chatCompletion(about, text, end);
    }
    return stream(request, reply, generation, about, 'chat.completion.chunk', body);
  });

  app.post('/v1/completions', async (request, reply) => {
    const body = checkBody(CompletionRequest, request.body);
    served.require(body.model);
    refuseUnsupported(body);
    if (body.echo === true)
      throw new ApiError(400, 'echo is not supported: leave it out', { param: 'echo', code: 'unsupported_parameter' });
    const model = lifecycle.model();
    const text = typeof body.prompt === 'string' ? body.prompt : (body.prompt[0] ?? '');
    const generation = startAnswer(model, metrics, reply, answerOf(body, textPrompt(model, text)));
    const about = head('cmpl', body.model);
    if (body.stream !== true) {
      const whole = await wholeAnswer(generation);
      return completion(about, whole.text, whole.end);
    }
    return stream(request, reply, generation, about, 'text_completion', body);
  });

  const describe = (name: string) => ({
    id: name,
    object: 'model',
    created: Math.floor((lifecycle.loaded?.loadedAt.getTime() ?? now()) / 1000),
    owned_by: 'slm-operator',
  });
  app.get('/v1/models', async () => ({ object: 'list', data: served.names.map(describe) }));
  app.get<{ Params: { '*': string } }>('/v1/models/*', async (request) => {
    const name = request.params['*'];
    served.require(name);
    return describe(name);
  });

  for (const [method, url, message] of NOT_YET)
    app.route({
      method,
      url,
      handler: async () => {
        throw new ApiError(501, message, { code: 'unsupported_endpoint' });
      },
    });
}

/** Completions stop at 16 tokens in OpenAI's reference; here both go on to the end of the answer, as chat does. */
function answerOf(body: GenerationFields, prompt: readonly number[], maxCompletionTokens?: number): AnswerRequest {
  return {
    prompt,
    maxTokens: maxCompletionTokens ?? body.max_tokens ?? Number.POSITIVE_INFINITY,
    sampling: samplingOf(body),
    stop: stopsOf(body),
  };
}

function stream(
  request: FastifyRequest,
  reply: FastifyReply,
  generation: ReturnType<typeof startAnswer>,
  head: ReplyHead,
  kind: 'chat.completion.chunk' | 'text_completion',
  body: GenerationFields,
): Promise<FastifyReply> {
  const format = streamFormat(head, kind, body.stream_options?.include_usage === true);
  return sendStream(request, reply, generation, format, format.opening);
}
