/**
 * What the routes answer, as far as a client can rely on it: for the API's description, and for the tests that hold the
 * answers to it. Owns no behaviour. Properties that are not named here may be there too.
 */
import { type TSchema, Type } from 'typebox';

const count = Type.Integer({ minimum: 0 });
const nanoseconds = Type.Integer({ minimum: 0, description: 'nanoseconds' });
const vector = Type.Array(Type.Number());
const open = Type.Record(Type.String(), Type.Unknown());
const orNull = (schema: TSchema) => Type.Union([schema, Type.Null()]);

/** Errors by the family of paths that an API has. */
export const OllamaError = Type.Object({ error: Type.String() });
export const OpenAIError = Type.Object({
  error: Type.Object({
    message: Type.String(),
    type: Type.String(),
    param: orNull(Type.String()),
    code: orNull(Type.String()),
  }),
});
export const AnthropicError = Type.Object({
  type: Type.Literal('error'),
  error: Type.Object({ type: Type.String(), message: Type.String() }),
});

const ollamaCounters = {
  total_duration: Type.Optional(nanoseconds),
  load_duration: Type.Optional(nanoseconds),
  prompt_eval_count: Type.Optional(count),
  prompt_eval_duration: Type.Optional(nanoseconds),
  eval_count: Type.Optional(count),
  eval_duration: Type.Optional(nanoseconds),
};
const ollamaHead = { model: Type.String(), created_at: Type.String({ format: 'date-time' }), done: Type.Boolean() };
const ollamaEnd = { done_reason: Type.Optional(Type.String()), ...ollamaCounters };
const ModelEntry = Type.Object({
  name: Type.String(),
  model: Type.String(),
  size: count,
  digest: Type.String(),
  details: open,
});

const usage = Type.Object({ prompt_tokens: count, total_tokens: count, completion_tokens: Type.Optional(count) });
const openAiHead = { id: Type.String(), created: count, model: Type.String() };
const finish = Type.Union([Type.Literal('stop'), Type.Literal('length'), Type.Literal('tool_calls')]);
const Model = Type.Object({
  id: Type.String(),
  object: Type.Literal('model'),
  created: count,
  owned_by: Type.String(),
});

const Ranking = Type.Object({
  object: Type.Literal('list'),
  model: Type.String(),
  usage,
  results: Type.Array(
    Type.Object({
      index: count,
      relevance_score: Type.Number({ minimum: 0, maximum: 1 }),
      document: Type.Optional(Type.Object({ text: Type.String() })),
    }),
  ),
});

/** An answer, and the type of the stream that it comes in when asked for. */
export interface Answer {
  readonly schema: TSchema;
  readonly stream?: 'application/x-ndjson' | 'text/event-stream';
  /** Default: application/json. */
  readonly type?: 'text/plain';
}

const events = 'text/event-stream';
const lines = 'application/x-ndjson';

/** By method and path, as the description writes it. */
export const ANSWERS: Readonly<Record<string, Answer>> = {
  'POST /api/chat': {
    schema: Type.Object({
      ...ollamaHead,
      message: Type.Object({
        role: Type.Literal('assistant'),
        content: Type.String(),
        thinking: Type.Optional(Type.String()),
        tool_calls: Type.Optional(
          Type.Array(Type.Object({ function: Type.Object({ name: Type.String(), arguments: open }) })),
        ),
      }),
      ...ollamaEnd,
    }),
    stream: lines,
  },
  'POST /api/generate': {
    schema: Type.Object({
      ...ollamaHead,
      response: Type.String(),
      thinking: Type.Optional(Type.String()),
      context: Type.Optional(Type.Array(count)),
      ...ollamaEnd,
    }),
    stream: lines,
  },
  'POST /api/embed': {
    schema: Type.Object({ model: Type.String(), embeddings: Type.Array(vector), ...ollamaCounters }),
  },
  'POST /api/embeddings': { schema: Type.Object({ embedding: vector }) },
  'POST /api/show': {
    schema: Type.Object({
      modelfile: Type.String(),
      template: Type.String(),
      details: open,
      model_info: open,
      capabilities: Type.Array(Type.String()),
      modified_at: Type.String({ format: 'date-time' }),
    }),
  },
  'GET /api/tags': { schema: Type.Object({ models: Type.Array(ModelEntry) }) },
  'GET /api/ps': { schema: Type.Object({ models: Type.Array(ModelEntry) }) },
  'GET /api/version': { schema: Type.Object({ version: Type.String() }) },
  'GET /': { schema: Type.String(), type: 'text/plain' },
  'POST /v1/chat/completions': {
    schema: Type.Object({
      ...openAiHead,
      object: Type.Literal('chat.completion'),
      choices: Type.Array(
        Type.Object({
          index: count,
          message: Type.Object({
            role: Type.Literal('assistant'),
            content: orNull(Type.String()),
            reasoning_content: Type.Optional(Type.String()),
            refusal: Type.Null(),
            tool_calls: Type.Optional(
              Type.Array(
                Type.Object({
                  id: Type.String(),
                  type: Type.Literal('function'),
                  function: Type.Object({ name: Type.String(), arguments: Type.String() }),
                }),
              ),
            ),
          }),
          logprobs: orNull(open),
          finish_reason: finish,
        }),
        { minItems: 1 },
      ),
      usage,
    }),
    stream: events,
  },
  'POST /v1/completions': {
    schema: Type.Object({
      ...openAiHead,
      object: Type.Literal('text_completion'),
      choices: Type.Array(
        Type.Object({ index: count, text: Type.String(), logprobs: orNull(open), finish_reason: finish }),
        { minItems: 1 },
      ),
      usage,
    }),
    stream: events,
  },
  'POST /v1/embeddings': {
    schema: Type.Object({
      object: Type.Literal('list'),
      data: Type.Array(
        Type.Object({
          object: Type.Literal('embedding'),
          index: count,
          embedding: Type.Union([vector, Type.String({ description: 'base64' })]),
        }),
      ),
      model: Type.String(),
      usage,
    }),
  },
  'POST /v1/rerank': { schema: Ranking },
  'POST /v2/rerank': { schema: Ranking },
  'POST /rerank': { schema: Ranking },
  'GET /v1/models': { schema: Type.Object({ object: Type.Literal('list'), data: Type.Array(Model) }) },
  'GET /v1/models/{name}': { schema: Model },
  'POST /v1/responses': {
    schema: Type.Object({
      id: Type.String(),
      object: Type.Literal('response'),
      created_at: count,
      status: Type.Union([Type.Literal('completed'), Type.Literal('incomplete')]),
      model: Type.String(),
      output: Type.Array(Type.Object({ type: Type.String(), id: Type.String() })),
      usage: Type.Object({ input_tokens: count, output_tokens: count, total_tokens: count }),
    }),
    stream: events,
  },
  'POST /v1/messages': {
    schema: Type.Object({
      id: Type.String(),
      type: Type.Literal('message'),
      role: Type.Literal('assistant'),
      model: Type.String(),
      content: Type.Array(Type.Object({ type: Type.String() })),
      stop_reason: Type.Union([
        Type.Literal('end_turn'),
        Type.Literal('max_tokens'),
        Type.Literal('stop_sequence'),
        Type.Literal('tool_use'),
      ]),
      stop_sequence: orNull(Type.String()),
      usage: Type.Object({ input_tokens: count, output_tokens: count }),
    }),
    stream: events,
  },
  'POST /v1/messages/count_tokens': { schema: Type.Object({ input_tokens: count }) },
};
