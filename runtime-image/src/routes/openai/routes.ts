/**
 * OpenAI's API. Owns the order of checks; what they check lies beside.
 */
import { randomBytes } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { ApiError } from '../../api-error.ts';
import type { Token } from '../../engines/engine.ts';
import type { Lifecycle, LoadedModel } from '../../lifecycle.ts';
import { type ModelDefaults, maxTokensOf } from '../../modelfile/defaults.ts';
import type { ModelEntry } from '../../models/model-entry.ts';
import { isAnthropic } from '../../plugins/errors.ts';
import type { Metrics } from '../../plugins/metrics.ts';
import { checkBody } from '../../schemas/check.ts';
import { ChatCompletionRequest, CompletionRequest, type GenerationFields } from '../../schemas/openai.ts';
import { type AnswerRequest, merged, sendStream, startAnswers, textPrompt, wholeAnswer } from '../answer.ts';
import { anthropicModel, anthropicModels } from '../anthropic/models.ts';
import { prepareChat } from '../chat.ts';
import { infillPrompt } from '../infill.ts';
import type { ServedModels } from '../served-model.ts';
import { refuseUnsupported } from './refusals.ts';
import { chatCompletion, completion, type ReplyHead, streamFormat } from './replies.ts';
import { grammarOf, messagesOf, samplingOf, stopsOf, toolChoiceOf, toolsOf } from './request.ts';

export interface ApiOptions {
  readonly lifecycle: Lifecycle;
  readonly metrics: Metrics;
  readonly served: ServedModels;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

/** An id as OpenAI writes them. */
export function newId(prefix: string, separator = '-'): string {
  return `${prefix}${separator}${randomBytes(12).toString('hex')}`;
}

export function registerOpenAi(app: FastifyInstance, options: ApiOptions): void {
  const { metrics, served, now } = options;

  const head = (prefix: string, model: string): ReplyHead => ({
    id: newId(prefix),
    created: Math.floor(now() / 1000),
    model,
    callId: () => newId('call', '_'),
  });

  app.post(
    '/v1/chat/completions',
    { config: { summary: 'Answers to a conversation', body: ChatCompletionRequest } },
    async (request, reply) => {
      const body = checkBody(ChatCompletionRequest, request.body);
      const entry = await served.require(body.model, request);
      refuseUnsupported(body);
      if (body.top_logprobs !== undefined && body.top_logprobs > 0 && body.logprobs !== true)
        throw new ApiError(400, 'top_logprobs needs logprobs: set it to true', { param: 'top_logprobs' });
      const messages = messagesOf(body);
      const model = await served.use(entry, reply);
      const logprobs = body.logprobs === true;
      const answer = answerOf(body, model.defaults, body.max_completion_tokens);
      const chat = prepareChat(model, {
        messages,
        tools: toolsOf(body.tools),
        toolChoice: toolChoiceOf(body.tool_choice),
        single: body.parallel_tool_calls === false || typeof body.tool_choice === 'object',
        think: body.reasoning_effort === 'none' ? false : body.reasoning_effort,
        answer: { ...answer, ...(logprobs ? { logprobs: body.top_logprobs ?? 0 } : {}) },
      });
      const count = body.n ?? 1;
      const answers = startAnswers(model, metrics, reply, seeded(chat.request, count), chat.reading);
      const about = head('chatcmpl', body.model);
      if (body.stream !== true) return chatCompletion(about, await Promise.all(answers.map(wholeAnswer)), logprobs);
      const format = streamFormat(about, {
        kind: 'chat.completion.chunk',
        choices: count,
        each: count,
        includeUsage: body.stream_options?.include_usage === true,
        logprobs,
      });
      return sendStream(request, reply, merged(answers), format, format.opening);
    },
  );

  app.post(
    '/v1/completions',
    { config: { summary: 'Continuations of texts', body: CompletionRequest } },
    async (request, reply) => {
      const body = checkBody(CompletionRequest, request.body);
      const entry = await served.require(body.model, request);
      refuseUnsupported(body);
      const model = await served.use(entry, reply);
      const { prompts, echoes } = promptsOf(model, body);
      const logprobs = body.logprobs !== undefined;
      const answer = { ...answerOf(body, model.defaults), ...(logprobs ? { logprobs: body.logprobs } : {}) };
      const each = body.n ?? 1;
      const requests = prompts.flatMap((prompt) => seeded({ ...answer, prompt }, each));
      if (requests.length > 128)
        throw new ApiError(400, `${requests.length} answers in one request: ask for at most 128`, { param: 'n' });
      const answers = startAnswers(model, metrics, reply, requests);
      const about = head('cmpl', body.model);
      if (body.stream !== true)
        return completion(about, await Promise.all(answers.map(wholeAnswer)), each, { echoes, logprobs });
      const format = streamFormat(about, {
        kind: 'text_completion',
        choices: answers.length,
        each,
        includeUsage: body.stream_options?.include_usage === true,
        logprobs,
        echoes,
      });
      return sendStream(request, reply, merged(answers), format, format.opening);
    },
  );

  const describe = (name: string, entry: ModelEntry) => ({
    id: name,
    object: 'model',
    created: Math.floor(((entry.spec.modifiedAt ?? entry.loaded?.loadedAt)?.getTime() ?? now()) / 1000),
    owned_by: 'slm-operator',
  });
  app.get('/v1/models', { config: { summary: 'The names of the models' } }, async (request) => {
    await served.registry.refresh();
    const data = served.registry.entries.flatMap((entry) => entry.spec.names.map((name) => describe(name, entry)));
    return isAnthropic(request) ? anthropicModels(data) : { object: 'list', data };
  });
  app.get<{ Params: { '*': string } }>('/v1/models/*', { config: { summary: 'One of them' } }, async (request) => {
    const name = request.params['*'];
    const model = describe(name, await served.require(name, request));
    return isAnthropic(request) ? anthropicModel(model) : model;
  });
}

/** Completions stop at 16 tokens in OpenAI's reference; here both go on to the end of the answer, as chat does. */
export function answerOf(
  body: GenerationFields,
  defaults: ModelDefaults,
  maxCompletionTokens?: number,
): Omit<AnswerRequest, 'prompt'> {
  const grammar = grammarOf(body);
  return {
    maxTokens: maxCompletionTokens ?? body.max_tokens ?? maxTokensOf(defaults),
    sampling: samplingOf(body, defaults),
    stop: body.stop === undefined ? stopsOf(defaults.parameters) : stopsOf(body),
    ...(grammar ? { grammar } : {}),
    ...(body.ignore_eos === true ? { ignoreEos: true } : {}),
    ...(body.min_tokens ? { minTokens: body.min_tokens } : {}),
  };
}

/** The same request several times, each with a seed of its own that follows from the first. */
function seeded(request: AnswerRequest, count: number): AnswerRequest[] {
  return Array.from({ length: count }, (_, index) => ({
    ...request,
    sampling: { ...request.sampling, seed: (request.sampling.seed + index) % 0xffff_ffff },
  }));
}

/** @throws ApiError (400) for tokens that the model does not know, and for what goes only with a text */
function promptsOf(
  model: LoadedModel,
  body: CompletionRequest,
): { readonly prompts: readonly Token[][]; readonly echoes: readonly string[] | undefined } {
  const { prompt } = body;
  const list: readonly (string | readonly Token[])[] =
    typeof prompt === 'string' ? [prompt] : prompt.every((one) => typeof one === 'number') ? [prompt] : prompt;
  const { vocabularySize } = model.engine.info.model;
  const prompts = list.map((one) => {
    if (typeof one === 'string') return body.suffix ? infillPrompt(model, one, body.suffix) : textPrompt(model, one);
    if (body.suffix)
      throw new ApiError(400, 'suffix goes with a text, not with tokens: leave it out', { param: 'suffix' });
    if (one.some((token) => token >= vocabularySize))
      throw new ApiError(400, `prompt has tokens that this model does not know: they end at ${vocabularySize - 1}`, {
        param: 'prompt',
      });
    return [...one];
  });
  if (body.echo !== true) return { prompts, echoes: undefined };
  const echoes = list.filter((one) => typeof one === 'string');
  if (echoes.length < list.length || body.logprobs !== undefined)
    throw new ApiError(400, 'echo goes with texts and without logprobs: leave it out', {
      param: 'echo',
      code: 'unsupported_parameter',
    });
  return { prompts, echoes };
}
