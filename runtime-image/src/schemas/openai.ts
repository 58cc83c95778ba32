/**
 * The bodies that OpenAI's API takes, as far as we honour them. Properties that are not named here pass: the real API
 * grows by the month, and clients send what they know. What is named in routes/openai/refusals.ts is refused.
 */
import { type Static, Type } from 'typebox';
import { anyObject, flag, integer, modelName, nullable, number, oneOf, stops, Tool, text } from './fields.ts';

const tokens = 'a whole number of at least 1';

/** What both endpoints take. */
const generation = {
  model: modelName,
  stream: Type.Optional(flag),
  stream_options: Type.Optional(
    Type.Object(
      { include_usage: Type.Optional(nullable(flag)) },
      { description: 'an object such as {"include_usage": true}' },
    ),
  ),
  temperature: Type.Optional(number(0, 2)),
  top_p: Type.Optional(number(0, 1)),
  max_tokens: Type.Optional(integer(1, tokens)),
  stop: Type.Optional(stops('a text or a list of up to 16 texts, of 1 to 1024 characters')),
  seed: Type.Optional(Type.Integer({ description: 'a whole number' })),
  presence_penalty: Type.Optional(number(-2, 2)),
  frequency_penalty: Type.Optional(number(-2, 2)),
  logit_bias: Type.Optional(
    Type.Object(
      {},
      {
        additionalProperties: Type.Number({ minimum: -100, maximum: 100 }),
        description: 'an object of token ids with numbers from -100 to 100',
      },
    ),
  ),
  n: Type.Optional(Type.Integer({ minimum: 1, maximum: 128, description: 'a whole number from 1 to 128' })),
  response_format: Type.Optional(
    Type.Object(
      {
        type: oneOf(['text', 'json_object', 'json_schema']),
        json_schema: Type.Optional(
          Type.Object(
            { name: Type.Optional(text), schema: Type.Optional(anyObject), strict: Type.Optional(nullable(flag)) },
            { description: 'an object with a schema' },
          ),
        ),
      },
      { description: 'an object with a type' },
    ),
  ),
  // What llama.cpp's own server takes beyond OpenAI.
  top_k: Type.Optional(integer(0, 'a whole number, 0 for the whole vocabulary')),
  min_p: Type.Optional(number(0, 1)),
  repeat_penalty: Type.Optional(number(0.01, 10)),
  repeat_last_n: Type.Optional(integer(-1, 'a whole number: tokens to look back on, -1 for all, 0 for none')),
  ignore_eos: Type.Optional(flag),
  min_tokens: Type.Optional(integer(0, 'a whole number')),
  grammar: Type.Optional(Type.String({ maxLength: 65_536, description: 'a grammar in GBNF' })),
};

const Content = Type.Union(
  [Type.String(), Type.Array(Type.Object({ type: Type.String(), text: Type.Optional(Type.String()) })), Type.Null()],
  { description: 'a text, or a list of parts such as {"type": "text", "text": "…"}' },
);

const Message = Type.Object(
  {
    role: Type.Union(
      [
        Type.Literal('system'),
        Type.Literal('developer'),
        Type.Literal('user'),
        Type.Literal('assistant'),
        Type.Literal('tool'),
        Type.Literal('function'),
      ],
      { description: 'system, developer, user, assistant or tool' },
    ),
    content: Type.Optional(Content),
    tool_calls: Type.Optional(
      nullable(
        Type.Array(
          Type.Object({
            id: Type.Optional(text),
            function: Type.Object({ name: text, arguments: Type.Optional(text) }),
          }),
          { description: 'a list of calls: {"id": …, "type": "function", "function": {"name": …, "arguments": "…"}}' },
        ),
      ),
    ),
    tool_call_id: Type.Optional(nullable(text)),
    name: Type.Optional(nullable(text)),
    reasoning_content: Type.Optional(nullable(text)),
  },
  { description: 'a message: {"role": …, "content": …}' },
);
export type Message = Static<typeof Message>;

export const ChatCompletionRequest = Type.Object({
  ...generation,
  messages: Type.Array(Message, { minItems: 1, description: 'a list of at least one message' }),
  max_completion_tokens: Type.Optional(integer(1, tokens)),
  logprobs: Type.Optional(flag),
  top_logprobs: Type.Optional(Type.Integer({ minimum: 0, maximum: 20, description: 'a whole number from 0 to 20' })),
  tools: Type.Optional(Type.Array(Tool, { maxItems: 128, description: 'a list of up to 128 functions' })),
  tool_choice: Type.Optional(
    Type.Union(
      [
        Type.Literal('none'),
        Type.Literal('auto'),
        Type.Literal('required'),
        Type.Object({ type: Type.Literal('function'), function: Type.Object({ name: Type.String() }) }),
      ],
      { description: 'none, auto, required or {"type": "function", "function": {"name": …}}' },
    ),
  ),
  parallel_tool_calls: Type.Optional(flag),
  reasoning_effort: Type.Optional(oneOf(['none', 'minimal', 'low', 'medium', 'high'])),
});
export type ChatCompletionRequest = Static<typeof ChatCompletionRequest>;

export const CompletionRequest = Type.Object({
  ...generation,
  prompt: Type.Union(
    [
      Type.String(),
      Type.Array(Type.String(), { minItems: 1, maxItems: 128 }),
      Type.Array(Type.Integer({ minimum: 0 }), { minItems: 1 }),
      Type.Array(Type.Array(Type.Integer({ minimum: 0 }), { minItems: 1 }), { minItems: 1, maxItems: 128 }),
    ],
    { description: 'a text, a list of up to 128 texts, or their tokens' },
  ),
  suffix: Type.Optional(text),
  echo: Type.Optional(flag),
  logprobs: Type.Optional(Type.Integer({ minimum: 0, maximum: 5, description: 'a whole number from 0 to 5' })),
});
export type CompletionRequest = Static<typeof CompletionRequest>;
export type GenerationFields = Omit<CompletionRequest, 'prompt' | 'suffix' | 'echo' | 'logprobs'>;

export const EmbeddingsRequest = Type.Object({
  model: modelName,
  input: Type.Union(
    [
      Type.String({ minLength: 1 }),
      Type.Array(Type.String({ minLength: 1 }), { minItems: 1, maxItems: 2048 }),
      Type.Array(Type.Integer({ minimum: 0 }), { minItems: 1 }),
      Type.Array(Type.Array(Type.Integer({ minimum: 0 }), { minItems: 1 }), { minItems: 1, maxItems: 2048 }),
    ],
    { description: 'a text, a list of up to 2048 texts, or their tokens; none may be empty' },
  ),
  encoding_format: Type.Optional(oneOf(['float', 'base64'])),
  dimensions: Type.Optional(integer(1, tokens)),
});
export type EmbeddingsRequest = Static<typeof EmbeddingsRequest>;
